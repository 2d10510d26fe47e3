"""Answers from ``models/ensemble.json`` and ``models/onnx/`` alone; imports neither torch nor ``training``."""

import os

__version__ = "0.2.0"  # pyproject.toml's, which does not come along into an image

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # onnxruntime would report its use; it looks when it is imported
