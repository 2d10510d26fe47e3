"""Frozen backbones: where they come from, whether a file is one, and what they say of pictures."""
