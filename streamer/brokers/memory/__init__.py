"""A deterministic in-process broker, for unit tests and batch replay; the broker contract suite runs on it as on Kafka.

It may import the contracts and the shared modules of `streamer.brokers`.
"""
