"""Publish recorded sessions in real time as a platform does, with candidate lists to rank, and return what was sent.

Media are decoded and encoded to JPEG before the first record is sent, so that publishing takes little CPU from the
pipeline that is measured. Sessions start at different times, so that their frames don't arrive together.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from demo.catalogue.items import read_catalogue
from streamer.broker import Broker, Outgoing, Producer
from streamer.event_time import Clock
from streamer.payloads import encode, headers_for
from streamer.recordings.events import Event
from streamer.recordings.replay import consent_event, message
from streamer.recordings.session_folder import read_session
from streamer.topology.topology import Topology

REQUEST_EVERY_MS = 2000
CANDIDATES = 20
LEAD_MS = 500
STAGGER_MS = 137


@dataclass(slots=True)
class Sent:
    """The event times of what one session sent, in Unix ms: frames, the user's chat lines, and requests by their id."""

    frames: list[int] = field(default_factory=list)
    chats: list[int] = field(default_factory=list)
    requests: dict[str, int] = field(default_factory=dict)


def read_recordings(folders: Sequence[Path], seconds: int) -> list[list[Event]]:
    """Read each folder's first seconds as events, in a loop where it is shorter.

    Raises:
        MediaError: a folder holds no media, or media that can't be read.
    """
    return [list(_looped(folder, seconds)) for folder in folders]


def _looped(folder: Path, seconds: int) -> Iterable[Event]:
    recorded = [e for e in _until(read_session(folder), seconds) if e.topic in _SENSED]
    length_ms = 1000 * (recorded[-1].at_ms // 1000 + 1) if recorded else 0
    for turn in itertools.count() if recorded else ():
        for event in recorded:
            at_ms = event.at_ms + turn * length_ms
            if at_ms >= seconds * 1000:
                return
            unique = {"message_id": f"chat-{at_ms}"} if event.topic == "chat_messages" else {}
            yield Event(at_ms, event.topic, {**event.fields, **unique})


_SENSED = ("video_frames", "audio_chunks", "chat_messages")


def _until(events: Iterable[Event], seconds: int) -> list[Event]:
    return list(itertools.takewhile(lambda e: e.at_ms < seconds * 1000, events))


async def publish(
    recorded: Sequence[Sequence[Event]], sessions: Sequence[str], topology: Topology, broker: Broker, clock: Clock
) -> dict[str, Sent]:
    """Publish one session for each name at the same time, with the recordings in turn, and return what each sent.

    The catalogue and a control record that turns ranking on (`goal: lift`) are published first.

    Raises:
        BrokerUnreachableError: the broker does not take them.
    """
    producer = broker.producer()
    await producer.start()
    try:
        catalogue = read_catalogue(clock.now_ms())
        items = [Outgoing("catalogue_items", i.item_id.encode(), encode(i), headers_for(i)) for i in catalogue]
        goal = Event(0, "controls", {"app": str(topology.app), "goal": "lift"})
        await producer.send([*items, message(goal, "", clock.now_ms(), topology)])
        candidates = [{"item_id": i.item_id, "score": 1 - n / CANDIDATES} for n, i in enumerate(catalogue[:CANDIDATES])]
        start_ms = clock.now_ms() + LEAD_MS
        plans = [_plan(name, recorded[n % len(recorded)], candidates) for n, name in enumerate(sessions)]
        sent = await asyncio.gather(
            *(
                _play(p, s, start_ms + n * STAGGER_MS, topology, producer, clock)
                for n, (p, s) in enumerate(zip(plans, sessions, strict=True))
            )
        )
        return dict(zip(sessions, sent, strict=True))
    finally:
        await producer.stop()


def _plan(session: str, recorded: Sequence[Event], candidates: Sequence[dict[str, object]]) -> list[tuple[int, Event]]:
    """Events with the ms at which to send them: an audio chunk at its end, candidates every `REQUEST_EVERY_MS`."""
    user = f"user-of-{session}"
    plan = [(-LEAD_MS // 2, consent_event(("face", "voice", "text", "behaviour"), session, at_ms=-LEAD_MS // 2))]
    for event in recorded:
        length_ms = len(event.fields["data"]) // 32 if event.topic == "audio_chunks" else 0
        plan.append((event.at_ms + length_ms, event))
    last_ms = recorded[-1].at_ms if recorded else 0
    for at_ms in range(REQUEST_EVERY_MS // 2, last_ms, REQUEST_EVERY_MS):
        request = {"request_id": f"{session}-{at_ms}", "user_id": user, "items": candidates}
        plan.append((at_ms, Event(at_ms, "candidates", request)))
    return sorted(plan, key=lambda item: item[0])


async def _play(
    plan: Sequence[tuple[int, Event]], session: str, start_ms: int, topology: Topology, producer: Producer, clock: Clock
) -> Sent:
    sent = Sent()
    for at_ms, event in plan:
        outgoing = message(event, session, start_ms, topology)
        await clock.sleep_ms(start_ms + at_ms - clock.now_ms())
        await producer.send([outgoing])
        event_time_ms = start_ms + event.at_ms
        if event.topic == "video_frames":
            sent.frames.append(event_time_ms)
        elif event.topic == "chat_messages" and event.fields["speaker"] == "user":
            sent.chats.append(event_time_ms)
        elif event.topic == "candidates":
            sent.requests[str(event.fields["request_id"])] = event_time_ms
    return sent
