"""Judges the served ensemble from arrays; imports no torch."""
