"""The audit on a real Kafka: what was decided is there, once for each change; nothing of what was sensed or said is."""

from __future__ import annotations

import asyncio
import dataclasses
import hashlib
import json
import logging
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from operators import consent as gate
from streamer.__main__ import main
from streamer.brokers.embedded.local_kafka import LocalKafka
from streamer.compliance.audit import readable
from streamer.errors import RefusedUseError, StreamerError
from streamer.payloads import AuditEntry
from streamer.recordings.events import Event
from streamer.recordings.replay import simulate
from streamer.runtime import audit_trail
from streamer.runtime.audit_trail import installed_version
from streamer.runtime.pipeline import Pipeline
from streamer.settings import load_settings
from streamer.topology.reading import load_topology
from streamer.topology.topology import Topology
from tests.streamer.compliance.platform import HAPPY, Platform, chat_message, now_ms

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(60, func_only=True)]

PICTURE = Path("topology.yaml").read_bytes()
OPERATORS = ("sense_text", "rank_items")


@pytest.fixture
def topology(unique: str) -> Topology:
    """The topology of an app of its own."""
    return dataclasses.replace(load_topology("topology.yaml"), app=unique)


@pytest_asyncio.fixture
async def platform(kafka: LocalKafka, topology: Topology) -> AsyncIterator[Platform]:
    async with Platform(kafka, topology, OPERATORS, sasl_password="hunter2").running() as running:  # noqa: S106 - bait
        yield running


async def entries(platform: Platform, subject: str, kind: str | None = None) -> list[dict[str, str]]:
    return [e.detail for e in await platform.read("audit", subject) if kind in (None, e.kind)]


async def test_a_start_says_settings_topology_models_and_policies_and_masks_secrets(platform: Platform) -> None:
    (settings,) = await entries(platform, platform.topology.app, "settings")
    assert settings["context"] == "research"
    assert settings["sha256"] == hashlib.sha256(PICTURE).hexdigest()
    assert settings["operators"] == "sense_text, rank_items"
    assert settings["STREAMER_ACCEPT_LICENCES"] == "unsettled"
    assert settings["version"] == installed_version()
    assert not any(b"hunter2" in (m.value or b"") for m in platform.seen)
    models = (await entries(platform, "sense_text", "model"))[-1]
    assert models["text_affect"] == "version 1 on openvino, licence free"
    policies = await entries(platform, "rank_items", "policy")  # of other tests' workers too
    assert {"policy": "version affect@1", "worker": settings["worker"]} in policies


async def test_a_consent_is_told_when_it_takes_effect_and_when_it_changes_and_not_for_each_message(
    platform: Platform, unique: str
) -> None:
    await decides_once_for_each_change(platform, unique)


async def test_without_its_entries_that_is_seen_to_fail(
    platform: Platform, unique: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gate, "audited", lambda *_: [])
    with pytest.raises(AssertionError):
        await decides_once_for_each_change(platform, unique)


async def decides_once_for_each_change(platform: Platform, session: str) -> None:
    await platform.consent(session)
    for _ in range(3):
        await platform.processed("chat_messages", chat_message(session, now_ms()))
    await platform.consent(session, modalities=["face"], disclosure_version="v2")
    await platform.processed("chat_messages", chat_message(session, now_ms()))
    expected = {"operator": "sense_text", "worker": platform.settings.worker_name(), "modality": "text"}
    assert await entries(platform, session, "consent") == [
        {**expected, "decision": "allowed", "mode": "full", "disclosure_version": "v1"},
        {**expected, "decision": "refused", "reason": "no_consent", "disclosure_version": "v2"},
    ]
    for message in platform.seen:
        if message.topic == "audit":
            assert HAPPY.encode() not in (message.value or b"")
            assert b"happiness" not in (message.value or b"")
            assert f"user of {session}".encode() not in (message.value or b"")


async def test_switches_and_overrides_of_ranking_are_told_by_whom_they_stop(platform: Platform) -> None:
    before = len(await entries(platform, "affect", "override"))
    for changes in ({"sensing_off": True}, {"policy": "noop", "goal": "lift", "cap": 0.2}, {}):
        await platform.control(**changes)
        await asyncio.sleep(0.05)  # the tables are known; what they made operators write is on its way
    found = (await entries(platform, "affect", "override"))[before:]
    assert [e["sensing"] for e in found if e["operator"] == "sense_text"] == ["off", "on"]
    ranking = [(e["policy"], e["goal"], e["cap"]) for e in found if e["operator"] == "rank_items"]
    assert ranking == [("noop@1", "lift", "0.2"), ("affect@1", "off", "0.3")]


async def test_a_use_that_is_refused_is_told_and_refused_all_the_same_where_it_cannot_be(
    kafka: LocalKafka, topology: Topology, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    platform = Platform(kafka, topology, OPERATORS)
    refused = platform.settings.model_copy(update={"context": "credit"})
    with pytest.raises(RefusedUseError, match="credit"):
        await Pipeline(topology, refused, platform.broker, only=OPERATORS).open()
    await platform.reader.start()
    (entry,) = await entries(platform, topology.app, "refusal")
    await platform.reader.stop()
    assert "STREAMER_CONTEXT=credit" in entry["refused"]

    async def fails(*_: Any) -> None:
        raise StreamerError("no Kafka")

    monkeypatch.setattr(audit_trail, "write", fails)
    with caplog.at_level(logging.WARNING), pytest.raises(RefusedUseError, match="credit"):
        await Pipeline(topology, refused, platform.broker, only=OPERATORS).open()
    assert "could not be written" in caplog.text
    await platform.broker.close()


async def test_the_command_prints_what_is_asked_for_in_80_columns_or_as_json(
    platform: Platform, unique: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("STREAMER_BROKERS", platform.broker.address)
    monkeypatch.setenv("STREAMER_CONTEXT", "research")
    session = f"person-{unique}"
    await platform.consent(session)
    await platform.processed("chat_messages", chat_message(session, now_ms()))

    async def printed(*arguments: str) -> str:
        assert await asyncio.to_thread(main, ["audit", *arguments]) == 0
        return capsys.readouterr().out

    everything = await printed()
    assert max(map(len, everything.splitlines())) <= 80
    assert f"  consent   {session}\n" in everything
    assert f"  settings  {platform.topology.app}\n" in everything
    times = [line[:20] for line in everything.splitlines() if line[:1] == "2"]
    assert times == sorted(times)
    for arguments in (["--session", session], ["--user", f"user of {session}"], ["--kind", "consent"]):
        found = [json.loads(line) for line in (await printed(*arguments, "--json")).splitlines()]
        assert found[-1]["subject"] == session
        assert found[-1]["detail"]["decision"] == "allowed"
        assert len({entry["kind" if arguments[0] == "--kind" else "subject"] for entry in found}) == 1
    assert await printed("--user", "nobody") == ""


def test_an_entry_is_wrapped_where_its_text_is_long() -> None:
    detail = {"not tensorrt": "no device; " * 20, "sha256": "a" * 64}
    text = readable(AuditEntry(event_time_ms=0, kind="model", subject="sense_face", detail=detail))
    assert text.startswith("1970-01-01 00:00:00Z  model     sense_face\n    not tensorrt: no device;")
    assert max(map(len, text.splitlines())) <= 80


@pytest.fixture
def without_audit(tmp_path: Path) -> Path:
    """The topology but for the topic `audit`."""
    lines = PICTURE.decode().splitlines(keepends=True)
    (tmp_path / "topology.yaml").write_text("".join(line for line in lines if not line.startswith("  audit:")))
    return tmp_path / "topology.yaml"


async def test_a_topology_without_the_topic_works_and_says_that_nothing_is_kept(
    without_audit: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["check", "--topology", str(without_audit)]) == 0
    assert "no topic `audit`" in capsys.readouterr().err
    events = [
        Event(0, "consents", {"user_id": "u", "disclosed_at_ms": 0, "modalities": ["text"]}),
        Event(500, "chat_messages", {"message_id": "m", "speaker": "user", "text": HAPPY}),
    ]
    settings = load_settings(context="research", accept_licences="unsettled", queue="all")
    stored = await simulate({"s": events}, load_topology(without_audit), settings)
    assert stored.messages("affect_events")
    with pytest.raises(KeyError):
        stored.messages("audit")


@pytest.mark.parametrize("command", [["audit"], ["forget", "somebody", "--yes"]])
@pytest.mark.parametrize(
    ("brokers", "code", "words"), [("127.0.0.1:9", 69, "127.0.0.1:9"), (None, 78, "STREAMER_BROKERS")]
)
def test_a_command_without_its_kafka_says_so(
    command: list[str],
    brokers: str | None,
    code: int,
    words: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.delenv("STREAMER_BROKERS", raising=False)
    if brokers is not None:
        monkeypatch.setenv("STREAMER_BROKERS", brokers)
    assert main(command) == code
    assert words in capsys.readouterr().err


def test_a_kind_that_is_none_is_64_and_the_kinds_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["audit", "--kind", "gossip"])
    assert ended.value.code == 64
    assert "consent" in capsys.readouterr().err
