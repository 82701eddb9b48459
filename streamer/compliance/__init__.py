"""What a deployment owes to people: the audit's entries, erasing a person, and how long Kafka really retains media.

It may import the contracts (the modules directly in `streamer`), `windowing`, `topology`, `brokers`, `runtime` and
`recordings`.
"""
