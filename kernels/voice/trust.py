"""How much speech, how noisy, how clipped in; how far a voice model's certainty is to be believed out, from 0 to 1.

The tables were fitted (`python -m models.voice_affect.recipe.gate`): EmoDB's utterances cut short, put under noise and
clipped, heard by networks that never heard their speaker. A factor is how often the answers are right beyond chance
over how sure the model is beyond chance.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class Table(NamedTuple):
    """Factors between knots, straight lines; beyond the first and the last knot they stay."""

    at: tuple[float, ...]
    factors: tuple[float, ...]

    def factor(self, seen: NDArray[np.float64] | float) -> NDArray[np.float64]:
        """What was measured, any shape, to factors of that shape."""
        return np.asarray(np.interp(seen, self.at, self.factors))


SPEECH_S = Table((0.4, 0.6, 0.8, 1.0, 1.5, 2.5), (0.69, 0.71, 0.79, 0.82, 0.91, 0.99))
RANGE_DB = Table((4.0, 8.0, 12.0, 18.0, 25.0), (1.0, 1.0, 1.0, 1.0, 1.0))
CLIPPED = Table((0.0, 0.01, 0.05, 0.2), (1.0, 1.0, 0.99, 0.96))
"""Networks trained on noisy and clipped copies say themselves how much less sure they are; of too little speech not."""


def trust(speech_s: float, range_db: float, clipped: float) -> float:
    """Seconds of speech, dB between loud and quiet frames and the share of clipped samples to trust in [0, 1]."""
    return float(SPEECH_S.factor(speech_s) * RANGE_DB.factor(range_db) * CLIPPED.factor(clipped))
