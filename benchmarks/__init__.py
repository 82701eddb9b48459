"""Measure accuracy, latency, fault tolerance and memory: `python -m benchmarks.{faults,p95,quality,sessions,soak}`."""
