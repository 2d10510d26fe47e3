"""What is trained on: sources, forget lists, placement, a drill's poison, and the shard store."""
