"""Hosts one operator on faust-streaming, for what a topology marks `host: faust`: operator, app and state table.

The runner's counterpart, with the same calls. It may import what `runtime` may, and the Kafka client's options.
"""
