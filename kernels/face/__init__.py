"""Faces in pictures: decode a JPEG, detect and track a face, cut it out for a model and measure its quality.

Imports nothing of this project but kernels.
"""
