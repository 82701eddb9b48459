"""Many sessions come and go: does the memory of a worker stay flat? `python -m benchmarks.soak --help`.

Runs the topology's operators that need no media (`OPERATORS`) in one process on the memory broker with a simulated
clock. Each session has a consent, observations, a chat line, a ranked list and an interaction; at its end the platform
deletes the consent. The broker retains two minutes of records, so any growth is in the operators' state.
"""

from __future__ import annotations

import asyncio
import gc
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from types import MappingProxyType

import psutil

from benchmarks import command_line
from operators.payloads import Candidate, CandidateList, ChatMessage, Consent, Interaction, Item, Observation
from streamer.broker import Outgoing
from streamer.brokers.memory.broker import MemoryBroker
from streamer.cli.arguments import default_topology
from streamer.event_time import ManualClock
from streamer.payloads import Keyed, encode, headers_for
from streamer.runtime.pipeline import Pipeline
from streamer.settings import load_settings
from streamer.topology.reading import load_topology
from streamer.topology.topology import Topology

OPERATORS = ("sense_text", "sense_behaviour", "fuse_affect", "rank_items")
START_MS = 1_700_000_000_000
RETENTION_MS = 120_000
SESSION_MS = 20_000
SAMPLES = 20
GROWTH_ALLOWED = 1.05
"""Allowed ratio of the resident memory at the end to that half-way."""


@dataclass(frozen=True, slots=True)
class Sample:
    """The resident memory after so many sessions."""

    sessions: int
    resident_bytes: int


def events(number: int, at_ms: int) -> Iterator[tuple[int, str, str, Keyed | None]]:
    """What a session publishes: Unix ms, topic, key, and payload (None for a tombstone)."""
    session, user = f"soak-{number}", f"user-{number}"
    consent = Consent(
        session_id=session, event_time_ms=at_ms, user_id=user, modalities=["face", "voice", "text", "behaviour"],
        disclosure_version="1", disclosed_at_ms=at_ms, minor=False, affect_ranking=True,
    )  # fmt: skip
    yield at_ms, "consents", session, consent
    items = [Candidate(item_id=name, score=1.0 - n / 10) for n, name in enumerate("abc")]
    candidates = CandidateList(
        session_id=session, event_time_ms=at_ms + 100, request_id=f"{session}-1", user_id=user, items=items
    )
    yield at_ms + 100, "candidates", session, candidates
    for n in range(3):
        end = at_ms + 500 + 700 * n
        observation = Observation(
            session_id=session, event_time_ms=end, modality="face", source_id="camera", start_ms=end, end_ms=end,
            emotions={"happiness": 0.7, "neutral": 0.3}, confidence=0.7, model="face_affect@1", source_kafka_ms=end,
        )  # fmt: skip
        yield end, "observations", session, observation
    line = ChatMessage(session_id=session, event_time_ms=at_ms + 900, message_id="m", speaker="other", text="hello")
    yield at_ms + 900, "chat_messages", session, line
    like = Interaction(
        session_id=session, event_time_ms=at_ms + 3000, interaction_id=f"{session}-i", user_id=user, item_id="a",
        kind="like",
    )  # fmt: skip
    yield at_ms + 3000, "interactions", session, like
    yield at_ms + SESSION_MS, "consents", session, None


def short_lived(topology: Topology) -> Topology:
    """The topology with a short retention, so that the memory of the broker is not what is measured."""
    topics = {name: replace(topic, retention_ms=RETENTION_MS) for name, topic in topology.topics.items()}
    return replace(topology, topics=MappingProxyType(topics))


async def soak(sessions: int, every_ms: int) -> list[Sample]:
    """Run so many sessions, a new one each `every_ms` of simulated time, and sample the memory at equal steps."""
    topology = short_lived(load_topology(default_topology()))
    clock = ManualClock(START_MS)
    broker = MemoryBroker(clock)
    settings = load_settings(context="research", queue="all")
    pipeline = Pipeline(topology, settings, broker, clock=clock, only=OPERATORS)
    await pipeline.open()
    producer = broker.producer()
    await producer.start()
    for name in "abc":
        item = Item(event_time_ms=START_MS, item_id=name, text=name)
        await producer.send([Outgoing("catalogue_items", name.encode(), encode(item), headers_for(item))])
    found: list[Sample] = []
    waiting: dict[int, list[Outgoing]] = {}  # by tick of `every_ms`
    for number in range(sessions + SESSION_MS // every_ms + 1):
        if number < sessions:
            for at_ms, topic, key, payload in events(number, START_MS + number * every_ms):
                value, headers = (None, ()) if payload is None else (encode(payload), headers_for(payload))
                due = max((at_ms - START_MS) // every_ms, number)
                waiting.setdefault(due, []).append(Outgoing(topic, key.encode(), value, headers))
        clock.set_ms(START_MS + number * every_ms)
        await producer.send(waiting.pop(number, []))
        for runner in pipeline.runners:
            await runner.step(wait_ms=0)
            await runner.flush()
        if number % max(sessions // SAMPLES, 1) == 0 and number:
            gc.collect()
            found.append(Sample(number, psutil.Process().memory_info().rss))
    await pipeline.stop()
    return found


def growth(found: list[Sample]) -> float:
    """The ratio of the resident memory at the end to that half-way."""
    return found[-1].resident_bytes / found[len(found) // 2].resident_bytes


def main() -> int:
    """Run the benchmark and print the figures; exit code 1 where memory grew, else 0."""
    parser = command_line.argument_parser("soak", (__doc__ or "").splitlines()[0])
    parser.add_argument("--sessions", type=int, default=100_000)
    parser.add_argument("--every", type=int, default=40, metavar="MS", help="a new session each MS of simulated time")
    args = parser.parse_args()
    command_line.print_machine()
    found = asyncio.run(soak(args.sessions, args.every))
    for sample in found:
        print(f"{sample.sessions:>8} sessions: {sample.resident_bytes / 2**20:6.1f} MiB resident")
    grown = growth(found)
    flat = grown <= GROWTH_ALLOWED
    verdict = "flat" if flat else "GROWS"
    print(f"memory {verdict}: at the end {grown:.3f} of half-way (allowed {GROWTH_ALLOWED})")
    return 0 if flat else 1


if __name__ == "__main__":
    sys.exit(main())
