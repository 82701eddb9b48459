"""Raises when it is imported: refused by `streamer check`, with the reason."""

raise RuntimeError("no such device")
