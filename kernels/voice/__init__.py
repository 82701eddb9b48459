"""Speech in sound: cut a stream into segments, compute log-mel, pitch and acoustic measures, and rate their quality.

Imports nothing of this project but kernels.
"""
