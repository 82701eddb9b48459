"""Implementations of the broker protocols of `streamer.broker`.

`kafka` are the clients of an Apache Kafka, `memory` is a deterministic in-process broker, and `embedded` downloads and
runs a Kafka on this machine. The modules directly here are what these share: limits, partitioner, rebalance callbacks,
the wording of errors. A broker may import those and the contracts (the modules directly in `streamer`), nothing else.
"""
