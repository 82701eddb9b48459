"""Score items by a person's feedback on other items of the session."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

EMBEDDING_WIDTH = 384
DECAY = 0.8
"""The weight of feedback is multiplied by this for each newer one."""


@dataclass(frozen=True, slots=True)
class ItemFeatures:
    """What items are compared by: tags, and a unit embedding (float32, 384) where there is one."""

    item_id: str
    tags: frozenset[str]
    embedding: NDArray[np.float32] | None = None


def read_embedding(raw: bytes | None) -> NDArray[np.float32] | None:
    """Read an embedding, 384 x little-endian float16, as a unit vector (float32); None for anything else."""
    if raw is None or len(raw) != 2 * EMBEDDING_WIDTH:
        return None
    vector = np.frombuffer(raw, dtype="<f2").astype(np.float32)
    length = float(np.linalg.norm(vector))
    return vector / np.float32(length) if np.isfinite(length) and length > 0 else None


def similarity(a: ItemFeatures, b: ItemFeatures, centre: NDArray[np.float32] | None = None) -> float:
    """Compare two items, in [0, 1]: 1 for the same item, else by their embeddings, else by their tags (Jaccard).

    Embeddings are compared by the cosine of their differences from `centre` (384, None: 0), negative cosines as 0. An
    encoder that was trained for another purpose maps all items to a small region, where plain cosines are all near 1.
    """
    if a.item_id == b.item_id:
        return 1.0
    if a.embedding is not None and b.embedding is not None:
        x, y = (a.embedding, b.embedding) if centre is None else (a.embedding - centre, b.embedding - centre)
        lengths = float(np.linalg.norm(x) * np.linalg.norm(y))
        return min(max(float(x @ y) / lengths, 0.0), 1.0) if lengths > 0 else 0.0
    union = a.tags | b.tags
    return len(a.tags & b.tags) / len(union) if union else 0.0


def preference_scores(items: Sequence[ItemFeatures], feedback: Sequence[tuple[ItemFeatures, float]]) -> list[float]:
    """Score each item in [-1, 1] by its similarity to items with feedback.

    `feedback` is oldest first: an item and a weight in [-1, 1] each. A score is the sum of weight times similarity,
    with decayed weights, clipped. The centre of similarity is the mean embedding of `items`.
    """
    embeddings = [item.embedding for item in items if item.embedding is not None]
    centre = np.asarray(np.stack(embeddings).mean(axis=0), dtype=np.float32) if embeddings else None
    decayed = [(other, weight * DECAY**age) for age, (other, weight) in enumerate(reversed(feedback))]
    sums = (sum((weight * similarity(item, other, centre) for other, weight in decayed), 0.0) for item in items)
    return [min(max(total, -1.0), 1.0) for total in sums]
