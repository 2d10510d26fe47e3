"""Trained networks: their layers, normalisation and initial weights."""
