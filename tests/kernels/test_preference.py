"""Feedback on some items scores others."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from kernels.ranking.preference import ItemFeatures, preference_scores, read_embedding, similarity


def vector(*values: float) -> bytes:
    return np.array([*values, *[0.0] * (384 - len(values))], dtype="<f2").tobytes()


@pytest.mark.parametrize("raw", [None, b"", b"\x00" * 767, vector(), vector(float("nan")), vector(float("inf"))])
def test_a_useless_embedding_is_no_embedding(raw: bytes | None) -> None:
    assert read_embedding(raw) is None


def test_similarity_is_by_embedding_else_by_tags() -> None:
    def item(name: str, tags: Sequence[str], raw: bytes | None = None) -> ItemFeatures:
        return ItemFeatures(name, frozenset(tags), read_embedding(raw))

    a, b = item("a", ["x", "y"], vector(1, 0)), item("b", ["y"], vector(1, 1))
    assert similarity(a, b) == pytest.approx(2**-0.5, abs=1e-3)
    assert similarity(a, b, np.array([1.0, 0.0] + [0.0] * 382, dtype=np.float32)) == 0.0
    assert similarity(a, item("c", ["y"])) == pytest.approx(0.5)
    assert similarity(a, item("a", [])) == 1.0
    assert similarity(item("d", []), item("e", [])) == 0.0


def test_newer_feedback_weighs_more_and_the_sum_stays_within_1() -> None:
    a, b = ItemFeatures("a", frozenset()), ItemFeatures("b", frozenset())
    assert preference_scores([a, b], [(a, 1.0), (b, 1.0)]) == pytest.approx([0.8, 1.0])
    assert preference_scores([a], [(a, 1.0)] * 9) == [1.0]
