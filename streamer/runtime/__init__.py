"""Runs operators: polls, decodes and admits records, processes them, writes what they return, commits, reports.

It may import the contracts (the modules directly in `streamer`), `windowing`, `topology` and `brokers`.
"""
