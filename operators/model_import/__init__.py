"""Import an encoder, an ONNX or Hugging Face folder, as a model folder that the topology can name.

Imports kernels and, of `streamer`, only its contracts: errors, event_time and settings.
"""
