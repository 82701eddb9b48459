"""The command line: each command is a file of `commands/`; the modules here are what several of them share.

It may import every other room of `streamer`; nothing but `streamer.__main__` imports it.
"""
