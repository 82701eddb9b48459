"""Measure latency from end to end on a real Kafka: from a frame, chat line or candidate list to the resulting record.

`python -m benchmarks.p95` starts Kafka and the pipeline on this machine, publishes recorded sessions in real time and
reports p50, p95 and p99, the time of each operator's stages, dropped records, memory and CPU.
"""
