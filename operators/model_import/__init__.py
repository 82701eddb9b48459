"""Bring your own encoder: an ONNX or a Hugging Face folder in, a model folder like the shipped ones out."""
