"""What a model has seen, by name: keys, plans, checkpoints and what they are digested from."""
