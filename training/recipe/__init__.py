"""All code that shapes weights and nothing else: this folder is what the keys digest."""
