"""Heads on a frozen backbone: linear in its features, which were computed once and for all."""
