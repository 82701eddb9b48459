"""Measure how well emotions are recognised in labelled sessions: each modality alone, and all of them fused.

`python -m benchmarks.sessions DIR` replays every session file to file, predicts each labelled segment from the finals
inside it, and reports macro-F1, calibration and risk against coverage with bootstrap intervals. One session also runs
in real time on Kafka, to check that its finals agree with those of the simulation.
"""
