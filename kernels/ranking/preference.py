"""What a person did with some items in this session in, how much that speaks for or against others out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

EMBEDDING_WIDTH = 384
FADE = 0.8
"""Each newer act weighs an older one down by this factor."""


@dataclass(frozen=True, slots=True)
class Trait:
    """What is compared of an item: its tags, and its embedding at length 1 (float32, 384) where it has one."""

    item_id: str
    tags: frozenset[str]
    embedding: NDArray[np.float32] | None = None


def read_embedding(raw: bytes | None) -> NDArray[np.float32] | None:
    """384 x float16, little-endian, to float32 at length 1; None for all else (another width, not finite)."""
    if raw is None or len(raw) != 2 * EMBEDDING_WIDTH:
        return None
    vector = np.frombuffer(raw, dtype="<f2").astype(np.float32)
    length = float(np.linalg.norm(vector))
    return vector / np.float32(length) if np.isfinite(length) and length > 0 else None


def likeness(a: Trait, b: Trait, centre: NDArray[np.float32] | None = None) -> float:
    """Two items to [0, 1]: 1 for the same one, else by their embeddings, else by the tags they share (Jaccard).

    By embeddings: the cosine of what sets each apart from `centre` (384, None: 0), negative ones as 0. An encoder that
    was tuned for another purpose puts everything in one corner, and a plain cosine would find all items alike.
    """
    if a.item_id == b.item_id:
        return 1.0
    if a.embedding is not None and b.embedding is not None:
        x, y = (a.embedding, b.embedding) if centre is None else (a.embedding - centre, b.embedding - centre)
        lengths = float(np.linalg.norm(x) * np.linalg.norm(y))
        return min(max(float(x @ y) / lengths, 0.0), 1.0) if lengths > 0 else 0.0
    union = a.tags | b.tags
    return len(a.tags & b.tags) / len(union) if union else 0.0


def speaks_for(items: Sequence[Trait], acts: Sequence[tuple[Trait, float]]) -> list[float]:
    """Items and acts (oldest first, each an item and a weight in [-1, 1]) to one number in [-1, 1] for each item."""
    known = [trait.embedding for trait in items if trait.embedding is not None]
    centre = np.asarray(np.stack(known).mean(axis=0), dtype=np.float32) if known else None
    faded = [(trait, weight * FADE**age) for age, (trait, weight) in enumerate(reversed(acts))]
    sums = (sum((weight * likeness(item, trait, centre) for trait, weight in faded), 0.0) for item in items)
    return [min(max(total, -1.0), 1.0) for total in sums]
