"""Numerical code on arrays: model inputs and outputs, detection, calibration, fusion, ranking and scores.

Kernels import nothing of this project but other kernels. They know no event loop, no Kafka and no clock; heavy
libraries (OpenCV, OpenVINO, tokenizers) are imported where they are first needed.
"""
