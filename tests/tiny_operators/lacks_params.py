"""A class without Params: refused by `streamer check`."""


class LacksParams:
    """Does nothing."""
