"""Recordings of topics as files, and their replay: publishing them again, or running operators over them in memory.

Media files and session folders are read here too. It may import the contracts (the modules directly in `streamer`),
`windowing`, `topology`, `brokers` and `runtime`.
"""
