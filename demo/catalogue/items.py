"""Read the demo's catalogue files as items for the topic `catalogue_items`."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from operators.payloads import Item, Mood

ITEMS = Path(__file__).with_name("catalogue.jsonl")
EMBEDDINGS = Path(__file__).with_name("catalogue.npy")


def read_catalogue(event_time_ms: int) -> list[Item]:
    """Read the items with the event time `event_time_ms` (Unix ms) and their embeddings (384 x float16, little-endian).

    Raises:
        ValueError: the two files differ in the number of items.
    """
    lines = [json.loads(line) for line in ITEMS.read_text(encoding="utf-8").splitlines()]
    embeddings = np.load(EMBEDDINGS).astype("<f2")
    if len(lines) != len(embeddings):
        raise ValueError(f"{EMBEDDINGS.name} holds {len(embeddings)} rows for {len(lines)} items: make both again")
    return [
        Item(
            event_time_ms=event_time_ms,
            item_id=line["item_id"],
            text=f"{line['title']}. {line['text']}",
            tags=line["tags"],
            mood=Mood(**line["mood"]),
            embedding=row.tobytes(),
            provenance=line["provenance"],
        )
        for line, row in zip(lines, embeddings, strict=True)
    ]


def read_titles() -> dict[str, str]:
    """Read the titles by item id."""
    lines = (json.loads(line) for line in ITEMS.read_text(encoding="utf-8").splitlines())
    return {line["item_id"]: line["title"] for line in lines}
