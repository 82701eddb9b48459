"""Numbers in, numbers out: no Kafka, no asyncio, no clock."""
