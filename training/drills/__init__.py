"""Rehearsed deletions, from before to after, in workspaces of their own: they only read the project."""
