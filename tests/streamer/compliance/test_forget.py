"""`streamer forget` on a real Kafka, with and without the host running whose state it erases."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from operators.payloads import Consent
from operators.rank_items import RankItems
from streamer.__main__ import main
from streamer.broker import Message, Outgoing
from streamer.brokers.embedded.local_kafka import LocalKafka
from streamer.compliance import forget
from streamer.compliance.people import read_to_end
from streamer.payloads import AuditEntry, WorkerReport, decode, encode
from streamer.recordings.recording import Recording, RecordingWriter, header_of
from streamer.topology.reading import load_topology
from tests.streamer.runtime.faust_bench import BASE, LIFTED, TOPOLOGY, Bench, held, now_ms, order

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(60, func_only=True)]

AUDIT = "  audit:           {payload: AuditEntry,   external: out, retention: 90d, key: subject}\n"
Run = Callable[..., str]


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    (tmp_path / "topology.yaml").write_text(TOPOLOGY.replace("operators:", f"{AUDIT}operators:"))
    return tmp_path / "topology.yaml"


@pytest_asyncio.fixture
async def bench(kafka: LocalKafka, picture: Path, unique: str) -> AsyncIterator[Bench]:
    """An app of its own beside a platform; one person with a list that affect has changed, and somebody else."""
    text = await asyncio.to_thread(picture.read_text)
    await asyncio.to_thread(picture.write_text, text.replace("app: alone", f"app: {unique}"))
    made = Bench(kafka, load_topology(picture))
    made.topology = load_topology(picture)
    made.session = f"session-of-{unique}"
    await made.start()
    await made.consent(user_id=f"person-{unique}", affect_ranking=True)
    await made.feel(-0.6)
    yield made
    await made.stop()


@pytest.fixture
def run(kafka: LocalKafka, picture: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """`streamer forget` with arguments; what it prints, to a person and to a pipe."""
    monkeypatch.setenv("STREAMER_BROKERS", kafka.address)
    monkeypatch.setattr(forget, "OPERATORS_NEED_MS", 400)  # eight turns of a host's

    def command(*arguments: str) -> str:
        assert main(["forget", "--topology", str(picture), *arguments]) == 0
        printed = capsys.readouterr()
        return printed.err + printed.out

    return command


async def latest(bench: Bench, topic: str) -> dict[bytes, bytes | None]:
    """A compacted topic's keys of the bench's session, and their latest values."""
    found = {m.key or b"": m.value async for m in read_to_end(bench.broker, [topic])}
    return {key: value for key, value in found.items() if key.partition(b"\0")[0] == bench.session.encode()}


async def erased_while_the_host_runs(bench: Bench, run: Run, person: str) -> None:
    async with bench.running() as host:
        await bench.until(1, 20.0, lambda: sorted(held(host) & {bench.session}))  # of two topics either may come first
        await bench.request()
        assert [order(one) for one in await bench.lists(1)] == [LIFTED]
        other, bench.session = bench.session, f"{bench.session}-other"
        await bench.request()
        await bench.lists(1)
        bench.session = other
        printed = await asyncio.to_thread(run, person, "--yes")
        assert order((await bench.lists(2))[-1]) == BASE
        assert held(host) & {bench.session, f"{bench.session}-other"} == {f"{bench.session}-other"}
        assert set((await latest(bench, f"{bench.topology.app}-rank_items-state-changelog")).values()) == {None}
    assert "erased from consents: 1 key" in printed
    assert f"erased from {bench.topology.app}-rank_items-state-changelog: 3 keys" in printed
    assert "ranked_items: 2 records, until " in printed
    assert "affect_live: 1 record, until " in printed
    assert await latest(bench, "consents") == {bench.session.encode(): None}
    entries = [decode(m.value, AuditEntry) async for m in read_to_end(bench.broker, ["audit"])]
    (entry,) = [e for e in entries if e.subject == bench.session]
    assert entry.detail == {"decision": "forgotten", "by": "streamer forget"}
    assert not any(person in str(entry) for entry in entries)


async def test_a_running_host_drops_what_it_keeps_and_the_base_order_is_back(
    bench: Bench, run: Run, unique: str
) -> None:
    await erased_while_the_host_runs(bench, run, f"person-{unique}")


async def test_a_host_that_keeps_it_is_noticed(
    bench: Bench, run: Run, unique: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(RankItems, "forget", lambda *_: None)
    with pytest.raises(AssertionError):
        await erased_while_the_host_runs(bench, run, f"person-{unique}")


async def erased_while_nobody_runs(bench: Bench, run: Run) -> None:
    async with bench.running():
        await bench.request()
        await bench.lists(1)
    changelog = f"{bench.topology.app}-rank_items-state-changelog"
    assert None not in (await latest(bench, changelog)).values()
    await asyncio.to_thread(run, bench.session, "--yes")
    assert set((await latest(bench, changelog)).values()) == {None}
    async with bench.running() as host:
        assert bench.session not in held(host)


async def test_a_session_is_not_there_when_a_host_starts_again(bench: Bench, run: Run) -> None:
    await erased_while_nobody_runs(bench, run)


async def test_a_changelog_that_is_left_out_is_noticed(bench: Bench, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forget, "changelogs", lambda _: [])
    with pytest.raises(AssertionError):
        await erased_while_nobody_runs(bench, run)


async def test_forgetting_again_erases_nothing_more_and_says_what_is_left(bench: Bench, run: Run) -> None:
    await asyncio.to_thread(run, bench.session, "--yes")
    printed = await asyncio.to_thread(run, bench.session, "--yes")
    assert "nothing was left to erase" in printed
    assert "consents: 2 records, replaced, until 1m have passed and one later record has come" in printed
    entries = [m.key async for m in read_to_end(bench.broker, ["audit"])]
    assert entries.count(bench.session.encode()) == 1


async def test_recordings_lose_the_person_and_keep_the_others(bench: Bench, run: Run, tmp_path: Path) -> None:
    def consent(session: str, user: str, offset: int) -> Message:
        value = encode(Consent(session_id=session, event_time_ms=1, user_id=user))
        return Message("consents", 0, offset, 1, session.encode(), value)

    path = tmp_path / "story.affectlog"
    with RecordingWriter(path, header_of(bench.topology, ["consents"], now_ms())) as writer:
        writer.add([consent("a", "ann", 0), consent("b", "bob", 1), consent("c", "ann", 2)])
        writer.end({})
    printed = await asyncio.to_thread(run, "ann", "--yes", "--recordings", str(tmp_path))
    assert f"erased from {path}: 2 records" in printed
    assert [m.key for m in Recording(path).messages()] == [b"b"]
    assert f"erased from {path}: 1 record" in await asyncio.to_thread(run, "b", "--yes", "--recordings", str(tmp_path))


async def test_a_user_whose_id_is_a_session_of_somebody_else_costs_the_other_nothing(bench: Bench, run: Run) -> None:
    # both are shown before anything is erased; what is looked up later goes by session alone
    mine, theirs = bench.session, f"{bench.session}-theirs"
    bench.session = theirs
    await bench.consent(user_id=mine)
    bench.session = mine
    found = await forget.find(bench.broker, bench.topology, f"person-{bench.topology.app}")
    assert found.sessions == {mine}
    await asyncio.to_thread(run, f"person-{bench.topology.app}", "--yes")
    assert await latest(bench, "consents") == {mine.encode(): None}
    bench.session = theirs
    assert None not in (await latest(bench, "consents")).values()


def test_somebody_unknown_is_said_to_be_unknown(bench: Bench, run: Run) -> None:
    del bench
    assert "nothing is held of a user or session nobody" in run("nobody", "--yes")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [(["somebody"], "--yes"), (["somebody", "--yes", "--recordings", "/nowhere"], "/nowhere: no such folder")],
)
def test_what_cannot_be_asked_or_found_is_78(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["forget", *arguments]) == 78
    assert words in capsys.readouterr().err


async def test_a_consent_in_every_partition_is_erased_in_each(bench: Bench, run: Run) -> None:
    producer = bench.broker.producer()
    await producer.start()
    key, at_ms = bench.session.encode(), now_ms()
    again = encode(Consent(session_id=bench.session, event_time_ms=at_ms, user_id="u", disclosed_at_ms=at_ms))
    await producer.send([Outgoing("consents", key, again, partition=n) for n in range(4)])
    await producer.stop()
    printed = await asyncio.to_thread(run, bench.session, "--yes")
    assert "erased from consents: 1 key" in printed
    values = {m.partition: m.value async for m in read_to_end(bench.broker, ["consents"]) if m.key == key}
    assert values == dict.fromkeys(range(4))


async def test_a_consent_that_comes_back_while_it_is_erased_is_an_error(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, kafka: LocalKafka, picture: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("STREAMER_BROKERS", kafka.address)
    monkeypatch.setattr(forget, "OPERATORS_NEED_MS", 10)
    again = encode(Consent(session_id=bench.session, event_time_ms=now_ms(), user_id="u"))
    delete = forget._delete  # noqa: SLF001 - a platform that goes on publishing

    async def deleted_and_given_again(broker: Any, found: Any, topics: Any) -> None:
        await delete(broker, found, topics)
        producer = broker.producer()
        await producer.start()
        await producer.send([Outgoing("consents", bench.session.encode(), again, partition=1)])
        await producer.stop()

    monkeypatch.setattr(forget, "_delete", deleted_and_given_again)
    arguments = ["forget", "--topology", str(picture), bench.session, "--yes"]
    assert await asyncio.to_thread(main, arguments) == 70
    assert "not all is erased: somebody has written 1 of consents anew" in capsys.readouterr().err


async def test_reports_that_name_a_session_whose_clock_is_off_are_said_to_be_left(bench: Bench, run: Run) -> None:
    report = WorkerReport(
        event_time_ms=now_ms(), worker="w", operator="sense_face", partitions=[], lag=0, counts={}, latency_ms={},
        models={}, backend="", reasons_against={}, clock_offsets_ms={bench.session: -180_000},
    )  # fmt: skip
    await bench.producer.send([Outgoing("worker_reports", b"w", encode(report))])
    assert "worker_reports: 1 record, until " in await asyncio.to_thread(run, bench.session, "--yes")
