"""The state of a dashboard, from the records of the output topics: newest estimate, newest list, log of changes.

It depends on the wire contract only, as a dashboard of any other team would.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from operators.payloads import AffectEvent, RankedItem, RankedList
from streamer.payloads import DeadLetter, Keyed
from streamer.recordings.events import Event

TOPICS = ("affect_live", "affect_events", "ranked_items", "late_records", "dead_letters")
"""The topics that the demo reads."""

STATE_WORDS = {"present": "present", "absent": "absent", "idle": "idle", "no_consent": "no consent"}


@dataclass(frozen=True, slots=True)
class Note:
    """A change to display: milliseconds from the start, and a line of text."""

    at_ms: int
    text: str


@dataclass(slots=True)
class Board:
    """The state to display.

    Attributes:
        titles: of the items, by item id.
        start_ms: Unix time of the session's start.
        modalities: in the order in which they are displayed.
    """

    titles: Mapping[str, str]
    start_ms: int = 0
    modalities: Sequence[str] = ()
    newest: AffectEvent | None = None
    ranked: RankedList | None = None
    finals: list[AffectEvent] = field(default_factory=list)
    lists: list[RankedList] = field(default_factory=list)
    provisionals: int = 0
    refused: dict[str, int] = field(default_factory=dict)
    latencies_ms: list[int] = field(default_factory=list)
    notes: list[Note] = field(default_factory=list)
    chat: str = ""
    picture: bytes = b""
    withdrawals: list[tuple[int, list[str]]] = field(default_factory=list)
    _granted: list[str] = field(default_factory=list)
    _face_ms: int = 0

    def published(self, event: Event) -> None:
        """Note an event that the demo has published."""
        fields = event.fields
        if event.topic == "video_frames":
            self.picture = fields["data"]
        elif event.topic == "chat_messages":
            speaker = "" if fields["speaker"] == "user" else "(somebody else, never read) "
            self.chat = f"{speaker}{fields['text']}"
            self._note(event.at_ms, f"chat: {self.chat}")
        elif event.topic == "consents":
            granted = list(fields["modalities"])
            gone = [m for m in self._granted if m not in granted]
            if gone:
                self.withdrawals.append((event.at_ms, gone))
            what = f"withdrawn for {', '.join(gone)}" if gone else f"given for {', '.join(granted) or 'nothing'}"
            self._note(event.at_ms, f"consent {what}")
            self._granted = granted
        elif event.topic == "candidates":
            self._note(event.at_ms, f"the platform asks for an order of {len(fields['items'])} items")

    def received(self, payload: Keyed, now_ms: int) -> None:
        """Update the state with a record that was read at `now_ms` (Unix ms)."""
        if isinstance(payload, AffectEvent):
            self._received_affect(payload, now_ms)
        elif isinstance(payload, RankedList):
            self._received_list(payload)
        elif isinstance(payload, DeadLetter):
            self.refused[payload.reason] = self.refused.get(payload.reason, 0) + 1

    def rises(self) -> list[tuple[RankedItem, int]]:
        """The newest list's items, each with the number of ranks that it has risen over the platform's order."""
        return [(item, item.base_rank - item.position) for item in self.ranked.items] if self.ranked else []

    def latency_ms(self, share: float) -> int | None:
        """A quantile of the latency from a frame's event time until its `affect_live` record is read; None at first."""
        ordered = sorted(self.latencies_ms)
        return ordered[min(int(share * len(ordered)), len(ordered) - 1)] if ordered else None

    def title(self, item_id: str) -> str:
        """An item's title, or its id if it has none."""
        return self.titles.get(item_id, item_id)

    def since_start(self, unix_ms: int) -> int:
        """Convert Unix milliseconds to milliseconds from the session's start."""
        return max(0, unix_ms - self.start_ms)

    def _received_affect(self, event: AffectEvent, now_ms: int) -> None:
        if event.final:
            self.finals.append(event)
        else:
            self.provisionals += 1
            face = event.modalities.get("face")
            if face is not None and face.newest_ms is not None and face.newest_ms > self._face_ms:
                self._face_ms = face.newest_ms
                self.latencies_ms.append(now_ms - face.newest_ms)
        before = self.newest
        if before is not None and version(event) <= version(before):
            return
        self.newest = event
        at_ms = self.since_start(event.window_end_ms)
        for name, modality in event.modalities.items():
            previous = before.modalities.get(name) if before else None
            if previous is None or previous.state != modality.state:
                self._note(at_ms, f"{name}: {STATE_WORDS[modality.state]}")

    def _received_list(self, ranked: RankedList) -> None:
        before = {item.item_id: item for item in self.ranked.items} if self.ranked else {}
        self.ranked = ranked
        self.lists.append(ranked)
        moved = [
            (before[i.item_id], i)
            for i in ranked.items
            if i.item_id in before and before[i.item_id].position != i.position
        ]
        if moved:
            old, new = max(moved, key=lambda m: abs(_affect(m[1]) - _affect(m[0])))
            way = "rises" if new.position < old.position else "falls"
            why = f"affect {_affect(old):+.2f} → {_affect(new):+.2f}"
            text = f"{self.title(new.item_id)} {way} from {old.position + 1} to {new.position + 1}: {why}"
            self._note(self.since_start(ranked.emitted_at_ms), text)

    def _note(self, at_ms: int, text: str) -> None:
        self.notes.append(Note(at_ms, text))


def _affect(item: RankedItem) -> float:
    return item.reasons.get("affect", 0.0)


def version(event: AffectEvent) -> tuple[int, bool, int]:
    """The sort key of events: window end, final after provisional, revision; a consumer keeps the greatest."""
    return (event.window_end_ms, event.final, event.revision)


def reasons(item: RankedItem) -> list[tuple[str, str]]:
    """Format the contributions that sum to an item's score, the platform's first: `base` 0.86, `affect` +0.14."""
    ordered = sorted(item.reasons.items(), key=lambda reason: reason[0] != "base")
    return [(name, f"{value:.2f}" if name == "base" else f"{value:+.2f}") for name, value in ordered]


def reasons_text(item: RankedItem) -> str:
    """The contributions to an item's score in one line."""
    return " ".join(f"{name} {value}" for name, value in reasons(item))


def likeliest(emotions: Mapping[str, float] | None) -> tuple[str, float] | None:
    """The emotion with the greatest probability, and that; None where there is no estimate."""
    return max(emotions.items(), key=lambda e: e[1]) if emotions else None


def clock_text(at_ms: int) -> str:
    """Format milliseconds from the start as minutes and seconds: `0:07`."""
    return f"{at_ms // 60_000}:{at_ms // 1000 % 60:02}"
