"""Answers from ``models/ensemble.json`` and ``models/onnx/`` alone; imports neither torch nor ``training``."""

import os

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # onnxruntime would report its use; it looks when it is imported
