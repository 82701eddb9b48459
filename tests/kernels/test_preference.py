"""What a person did with some items, and what that says of others."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from kernels.ranking.preference import Trait, likeness, read_embedding, speaks_for


def vector(*values: float) -> bytes:
    return np.array([*values, *[0.0] * (384 - len(values))], dtype="<f2").tobytes()


@pytest.mark.parametrize("raw", [None, b"", b"\x00" * 767, vector(), vector(float("nan")), vector(float("inf"))])
def test_a_useless_embedding_is_no_embedding(raw: bytes | None) -> None:
    assert read_embedding(raw) is None


def test_likeness_is_by_embedding_else_by_tags() -> None:
    def trait(name: str, tags: Sequence[str], raw: bytes | None = None) -> Trait:
        return Trait(name, frozenset(tags), read_embedding(raw))

    a, b = trait("a", ["x", "y"], vector(1, 0)), trait("b", ["y"], vector(1, 1))
    assert likeness(a, b) == pytest.approx(2**-0.5, abs=1e-3)
    assert likeness(a, b, np.array([1.0, 0.0] + [0.0] * 382, dtype=np.float32)) == 0.0
    assert likeness(a, trait("c", ["y"])) == pytest.approx(0.5)
    assert likeness(a, trait("a", [])) == 1.0
    assert likeness(trait("d", []), trait("e", [])) == 0.0


def test_newer_acts_weigh_more_and_the_sum_stays_within_1() -> None:
    a, b = Trait("a", frozenset()), Trait("b", frozenset())
    assert speaks_for([a, b], [(a, 1.0), (b, 1.0)]) == pytest.approx([0.8, 1.0])
    assert speaks_for([a], [(a, 1.0)] * 9) == [1.0]
