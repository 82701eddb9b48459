"""A topology of version 1, as recordings contain it, is read as what it said."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from streamer.errors import ConfigurationError
from streamer.topology.asyncapi import asyncapi
from streamer.topology.reading import load_topology
from streamer.topology.topology import Topology
from tests.shipped import TOPOLOGY

VERSION_1 = (Path(__file__).parent / "topology_version_1.yaml").read_text(encoding="utf-8")


def load(text: str, folder: Path) -> Topology:
    path = folder / "topology.yaml"
    path.write_text(text, encoding="utf-8")
    return load_topology(path)


def test_the_last_file_of_version_1_is_the_shipped_topology(tmp_path: Path) -> None:
    old = load(VERSION_1, tmp_path)
    assert replace(old, source=TOPOLOGY.source) == TOPOLOGY
    assert list(old.modalities) == list(TOPOLOGY.modalities)
    assert asyncapi(old) == asyncapi(TOPOLOGY)


def test_what_version_1_left_out_has_the_defaults_of_then(tmp_path: Path) -> None:
    text = VERSION_1
    for key in ("half_life", "reliability", "sharpness"):
        start = text.index(f"      {key}: {{")
        text = text[:start] + text[text.index("\n", start) + 1 :]
    assert load(text, tmp_path).modalities == TOPOLOGY.modalities


def test_values_of_version_1_are_carried_over(tmp_path: Path) -> None:
    text = VERSION_1.replace("{face: 1s, voice: 2s, text: 4s, behaviour: 4s}", "{voice: 3s}").replace(
        "reliability: {face: 0.9, voice: 0.8, text: 0.9}", "reliability: {voice: 0.5}"
    )
    modalities = load(text.replace("sparse: [text, behaviour]", "sparse: [face]"), tmp_path).modalities
    assert {name: int(m.half_life) for name, m in modalities.items()} == {
        "face": 0, "voice": 3000, "text": 0, "behaviour": 0,
    }  # fmt: skip
    assert [m.reliability for m in modalities.values()] == [0.9, 0.5, 0.9, None]
    assert [m.sparse for m in modalities.values()] == [True, False, False, False]


def test_a_mistake_of_version_1_is_told_with_its_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError) as refused:
        load(VERSION_1.replace("{face: 1s,", "{face: 1,"), tmp_path)
    (problem,) = refused.value.problems
    assert problem.path == "modalities.face.half_life"
    assert "1 is not a duration" in problem.message
    line = next(n for n, text in enumerate(VERSION_1.splitlines(), 1) if "half_life: {face" in text)
    assert f"(line {line})" in problem.message


def test_without_a_fuser_version_1_knows_the_four_modalities(tmp_path: Path) -> None:
    start, end = VERSION_1.index("  fuse_affect:\n"), VERSION_1.index("  rank_items:\n")
    text = VERSION_1[:start] + VERSION_1[end:]
    text = text.replace("{payload: Observation,", "{payload: Observation, external: out,")
    text = text.replace("{payload: AffectEvent, external: out", "{payload: AffectEvent, external: in")
    assert set(load(text, tmp_path).modalities) == {"face", "voice", "text", "behaviour"}


def test_modalities_in_a_file_of_version_1_are_refused_not_passed_over(tmp_path: Path) -> None:
    text = VERSION_1.replace("operators:\n", "modalities:\n  pulse: {half_life: 1s, evidence: false}\noperators:\n", 1)
    with pytest.raises(ConfigurationError, match=r"version: must be 2, not 1"):
        load(text, tmp_path)
