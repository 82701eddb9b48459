"""Downloads an Apache Kafka and runs it on loopback, for the command line, tests and benchmarks.

It may import the contracts; clients connect to its address as to any other Kafka.
"""
