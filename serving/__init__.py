"""Answers from ``models/ensemble.json`` and ``models/onnx/`` alone; imports neither torch nor ``training``."""
