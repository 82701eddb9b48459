"""Clients of an Apache Kafka: consumers, plain and transactional producers, and topic administration.

The only modules of the product that import aiokafka. They may import the contracts and the shared modules of
`streamer.brokers`.
"""
