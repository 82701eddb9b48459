"""How much a voice model's confidence counts, from 0 to 1, by amount of speech, noise and clipping.

The tables were fitted (`python -m models.voice_affect.recipe.gate`) on EmoDB's utterances, shortened, with noise added
and clipped, classified by networks whose training left out their speaker. A factor is the accuracy above chance divided
by the mean confidence above chance.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class Table(NamedTuple):
    """Factors at knots: linear between them, constant beyond the first and the last."""

    at: tuple[float, ...]
    factors: tuple[float, ...]

    def factor(self, measured: NDArray[np.float64] | float) -> NDArray[np.float64]:
        """Look up the factors of measurements of any shape."""
        return np.asarray(np.interp(measured, self.at, self.factors))


SPEECH_S = Table((0.4, 0.6, 0.8, 1.0, 1.5, 2.5), (0.69, 0.71, 0.79, 0.82, 0.91, 0.99))
RANGE_DB = Table((4.0, 8.0, 12.0, 18.0, 25.0), (1.0, 1.0, 1.0, 1.0, 1.0))
CLIPPED = Table((0.0, 0.01, 0.05, 0.2), (1.0, 1.0, 0.99, 0.96))
"""Networks trained on noisy and clipped copies lower their own confidence there, but not for too little speech."""


def trust(speech_s: float, range_db: float, clipped: float) -> float:
    """Compute trust in [0, 1] from seconds of speech, level range in dB and the share of clipped samples."""
    return float(SPEECH_S.factor(speech_s) * RANGE_DB.factor(range_db) * CLIPPED.factor(clipped))
