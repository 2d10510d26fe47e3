"""Makes the models: from samples to a manifest of ONNX shards. Nothing here is needed to serve them."""

import os

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # onnxruntime would report its use; it looks when it is imported
