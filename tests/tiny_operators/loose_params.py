"""Params that would swallow a misspelt key: refused by `streamer check`."""

import msgspec


class Params(msgspec.Struct):
    """Neither frozen nor strict."""


class LooseParams:
    """Does nothing."""
