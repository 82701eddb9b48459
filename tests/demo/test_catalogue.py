"""The demo's catalogue: whole, spread over the moods, and what its recipe makes."""

from __future__ import annotations

from demo.catalogue.items import read_catalogue, read_titles
from demo.catalogue.make import make_items
from kernels.emotions import EMOTIONS
from kernels.ranking.preference import ItemFeatures, preference_scores, read_embedding
from operators.payloads import Item
from streamer.payloads import decode, encode

NOW = 1_700_000_000_000


def test_every_catalogue_item_has_all_that_ranking_needs() -> None:
    items = read_catalogue(NOW)
    assert len(items) >= 300
    assert len({i.item_id for i in items}) == len({i.text for i in items}) == len(items) == len(read_titles())
    for made in items:
        assert decode(encode(made), Item) == made
        assert made.provenance is not None
        assert made.provenance["ai_generated"] is True
        assert made.mood is not None
        assert made.mood.emotion in EMOTIONS
        assert read_embedding(made.embedding) is not None
    corners = {(i.mood.valence > 0, i.mood.arousal > 0) for i in items if i.mood}
    assert len(corners) == 4
    assert {i.mood.emotion for i in items if i.mood} == set(EMOTIONS)


def test_the_catalogue_is_what_its_parts_make() -> None:
    made = {i["item_id"]: (f"{i['title']}. {i['text']}", i["mood"]["valence"]) for i in make_items()}
    assert {i.item_id: (i.text, i.mood.valence) for i in read_catalogue(NOW) if i.mood} == made


def test_what_resembles_a_liked_item_in_the_catalogue_is_of_its_kind() -> None:
    features = [ItemFeatures(i.item_id, frozenset(i.tags), read_embedding(i.embedding)) for i in read_catalogue(NOW)]
    liked = next(t for t in features if t.item_id == "music-slow-river")
    scores = preference_scores(features, [(liked, 1.0)])
    nearest = sorted(zip(scores, features, strict=True), key=lambda pair: -pair[0])[:8]
    assert sum("slow-river" in t.item_id or "music" in t.tags or "quiet" in t.tags for _, t in nearest) >= 6
