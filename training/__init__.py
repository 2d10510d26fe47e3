"""Makes the models: from samples to a manifest of ONNX shards. Nothing here is needed to serve them."""
