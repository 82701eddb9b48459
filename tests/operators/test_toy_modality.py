"""A modality that nobody knew of: docs/examples adds one file and its lines in the YAML, and it is sensed and fused."""

from __future__ import annotations

import copy
import importlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

import operators
from operators.payloads import AffectEvent, Consent, Observation
from streamer.broker import Outgoing
from streamer.brokers.memory.broker import MemoryBroker
from streamer.errors import ConfigurationError
from streamer.event_time import ManualClock
from streamer.payloads import DeadLetter, Keyed, decode, encode, headers_for
from streamer.recordings.recorder import RecordingFilter
from streamer.recordings.replay import pass_time, settle
from streamer.runtime.pipeline import Pipeline
from streamer.settings import load_settings
from streamer.topology.asyncapi import asyncapi
from streamer.topology.reading import load_topology
from streamer.topology.topology import Topology

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "docs" / "examples"
START_MS = 1_700_000_000_000

Edit = Callable[[dict[str, Any]], None]
Load = Callable[..., Topology]


@pytest.fixture
def load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Load:
    """Loads the shipped topology with the example's lines added to its sections; its file is where operators are."""
    monkeypatch.setattr(operators, "__path__", [*operators.__path__, str(EXAMPLES)])
    importlib.invalidate_caches()

    def loaded(edit: Edit = lambda file: None) -> Topology:
        file = yaml.safe_load((ROOT / "topology.yaml").read_text(encoding="utf-8"))
        added: Mapping[str, Any] = yaml.safe_load((EXAMPLES / "pulse.yaml").read_text(encoding="utf-8"))
        for section, entries in added.items():
            file[section] |= entries
        edit(file)
        path = tmp_path / "topology.yaml"
        path.write_text(yaml.safe_dump(file, sort_keys=False), encoding="utf-8")
        return load_topology(path)

    return loaded


def consent(at_ms: int = START_MS - 1000, *modalities: str) -> Consent:
    return Consent(
        session_id="s", event_time_ms=at_ms, user_id="u", modalities=list(modalities), disclosed_at_ms=at_ms,
        minor=False,
    )  # fmt: skip


def sample(at_ms: int, beats: float = 110.0) -> Any:
    kind = importlib.import_module("operators.sense_pulse").PulseSample
    return kind(session_id="s", event_time_ms=at_ms, source_id="wrist", beats_per_minute=beats)


class Life:
    """The pipeline of a topology on a memory broker, in simulated time."""

    def __init__(self, topology: Topology) -> None:
        self.topology, self.clock = topology, ManualClock(START_MS)
        self.broker = MemoryBroker(self.clock)
        self.pipeline = Pipeline(
            topology, load_settings(context="research"), self.broker, clock=self.clock,
            only=["sense_pulse", "fuse_affect"],
        )  # fmt: skip

    async def put(self, topic: str, payload: Keyed) -> None:
        producer = self.broker.producer()
        await producer.start()
        await producer.send([Outgoing(topic, b"s", encode(payload), headers_for(payload))])

    async def samples(self, n: int) -> None:
        for at_ms in range(START_MS, START_MS + n * 1000, 1000):
            await pass_time(self.pipeline, self.clock, at_ms)
            await self.put("pulse_samples", sample(at_ms))
            await settle(self.pipeline)
        await pass_time(self.pipeline, self.clock, START_MS + (n + 5) * 1000)

    def read(self, topic: str, payload: type[Any]) -> list[Any]:
        return [decode(m.value, payload) for m in self.broker.messages(topic) if m.value and m.key]


async def test_a_pulse_is_sensed_with_consent_and_fused_into_affect_events(load: Load) -> None:
    life = Life(load())
    await life.pipeline.open()
    await life.put("consents", consent(START_MS - 1000, "pulse"))
    await life.samples(5)
    observed = life.read("observations", Observation)
    assert [o.modality for o in observed] == ["pulse"] * 5
    assert all(o.emotions and o.emotions["surprise"] > 0.5 for o in observed)
    finals = life.read("affect_events", AffectEvent)
    assert len(finals) >= 8
    assert all(set(e.modalities) == {"pulse"} for e in finals)
    assert max(e.modalities["pulse"].weight for e in finals) == 1.0
    assert any(e.emotions and max(e.emotions, key=e.emotions.__getitem__) == "surprise" for e in finals)
    await life.pipeline.stop()


async def test_without_consent_to_it_a_pulse_is_not_read(load: Load) -> None:
    life = Life(load())
    await life.pipeline.open()
    await life.put("consents", consent(START_MS - 1000, "face", "text"))
    await life.samples(3)
    assert {o.reason for o in life.read("observations", Observation)} == {"no_consent"}
    await life.pipeline.stop()


async def test_consent_to_what_nobody_declared_grants_nothing_and_the_rest_of_it_counts(
    load: Load, caplog: pytest.LogCaptureFixture
) -> None:
    life = Life(load())
    await life.pipeline.open()
    await life.put("consents", consent(START_MS - 1000, "pulse", "smell"))
    await life.samples(2)
    assert life.read("dead_letters", DeadLetter) == []
    assert "names a modality that this topology does not declare: it is left aside" in caplog.text
    assert "smell" not in caplog.text
    assert not all(o.absent for o in life.read("observations", Observation))
    await life.pipeline.stop()


def test_check_refuses_it_where_it_is_not_declared(load: Load) -> None:
    def undeclared(file: dict[str, Any]) -> None:
        del file["modalities"]["pulse"]

    with pytest.raises(ConfigurationError, match="it senses pulse, which `modalities` does not declare"):
        load(undeclared)


def test_its_samples_are_recorded_only_with_consent_to_it(load: Load) -> None:
    filtered = RecordingFilter(load())
    topic = filtered.topology.topics["pulse_samples"]
    assert topic.type.MEDIA
    assert filtered.topology.modality_of("pulse_samples") == "pulse"
    later = sample(START_MS)
    assert later.may_be_recorded([consent(START_MS - 1000, "pulse")], "pulse")
    assert not later.may_be_recorded([consent(START_MS - 1000, "face")], "pulse")


def test_the_schema_names_it_where_modalities_are_named(load: Load) -> None:
    schemas = asyncapi(load())["components"]["schemas"]
    assert schemas["Observation"]["properties"]["modality"]["enum"] == ["behaviour", "face", "pulse", "text", "voice"]
    assert schemas["PulseSample"]["properties"]["beats_per_minute"]["description"] == "the mean over that second"


def test_a_payload_that_takes_the_name_of_another_is_refused(load: Load, tmp_path: Path) -> None:
    source = (EXAMPLES / "sense_pulse.py").read_text(encoding="utf-8")
    (tmp_path / "sense_beat.py").write_text(source.replace("class SensePulse", "class SenseBeat"), encoding="utf-8")
    operators.__path__ = [*operators.__path__, str(tmp_path)]  # put back with the fixture's own

    def twice(file: dict[str, Any]) -> None:
        file["operators"]["sense_beat"] = copy.deepcopy(file["operators"]["sense_pulse"])

    with pytest.raises(ConfigurationError, match="its payload PulseSample has the name of another one"):
        load(twice)
