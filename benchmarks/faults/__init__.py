"""Cause faults on a real Kafka and check that every final is still written exactly once and correct.

`python -m benchmarks.faults` runs each case with worker processes and a synthetic load: workers killed, paused,
doubled or added, brokers killed, everything restarted. It then compares the topic with the finals that a slow oracle
derives from the full log of observations. docs/faults.md has the results.
"""
