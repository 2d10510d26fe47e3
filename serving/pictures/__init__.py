"""The one decoder: from a picture, the file as a person sends or stores it, to an image, an (H, W, 3) uint8 array.

Training and serving both call it, so a picture is the same image to both. It needs neither torch nor
onnxruntime. What it decides is in docs/pictures.md.
"""
