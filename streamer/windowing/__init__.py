"""Event-time windows over one partition: which records are evidence, when a window closes, what it contains.

A pure function of the log: offsets, Kafka times and payloads, never a wall clock or the size of a batch. It may import
the contracts (the modules directly in `streamer`) and nothing else.
"""
