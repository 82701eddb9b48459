"""Draws docs/event_time.svg from windows that really closed: `python -m docs.draw_event_time` (a test compares).

One session: a face until the person leaves, a voice until it is muted, one line of chat; then a log that is read again.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from streamer.event_time import Duration
from streamer.operator import Window
from streamer.windowing.closing_rule import ClosingRule
from streamer.windowing.window_spec import WindowSpec
from streamer.windowing.windows import PartitionWindows

OUT = Path(__file__).with_name("event_time.svg")
SPEC = WindowSpec(size=Duration(2000), hop=Duration(500), rule=ClosingRule(sparse=frozenset({"text"})))
HALF_LIFE_MS = {"face": 1000, "voice": 2000, "text": 4000}
DELIVERY_MS = {"face": 60, "voice": 180, "text": 90}
START = 10_000
ROWS = {"face": 92, "voice": 122, "text": 152}
COLOURS = {"face": "#2563a8", "voice": "#b4541a", "text": "#3d7a33"}
LEFT, SCALE, WIDTH = 120, 0.15, 1000
INK, FAINT = "#1f2933", "#9aa5b1"


@dataclass(frozen=True)
class Seen:
    """An observation: what modality, and the event time at which it ends."""

    modality: str
    end_ms: int
    session_id: str = "s"
    source_id: str = "a"
    absent: bool = False
    source_kafka_ms: int = 0

    @property
    def start_ms(self) -> int:
        """Instantaneous."""
        return self.end_ms


def log() -> list[tuple[int, Seen]]:
    """(Kafka time, observation) in the order of the log."""
    seen = [Seen("face", START + ms) for ms in range(0, 2900, 100)]
    seen += [Seen("voice", START + ms) for ms in range(0, 1800, 250)]
    seen.append(Seen("text", START + 2250))
    stamped = [(o.end_ms + DELIVERY_MS[o.modality], o) for o in seen]
    return sorted(stamped, key=lambda pair: (pair[0], pair[1].modality))


def windows() -> list[tuple[Window, str]]:
    """The finals, each with why it closed when it did."""
    part = PartitionWindows(SPEC, HALF_LIFE_MS, lambda _: False)
    closed: list[tuple[Window, str]] = []
    for offset, (kafka_ms, seen) in enumerate(log()):
        while (due := part.next_due_ms()) is not None and due <= kafka_ms:
            closed += [(w, by_time(w)) for w in part.tick(offset, due).closed]
        closed += [(w, "every active modality is past its end") for w in part.apply(offset, kafka_ms, seen).closed]
    while (due := part.next_due_ms()) is not None:
        closed += [(w, by_time(w)) for w in part.tick(10_000, due).closed]
    return closed


def by_time(window: Window) -> str:
    """Why a window closed though no observation completed it."""
    return "the voice is no longer waited for" if window.active else "nobody is active: a tick"


def x(ms: int) -> float:
    """A moment to its place."""
    return round(LEFT + (ms - START) * SCALE, 1)


def text(at: float, y: float, words: str, *, colour: str = INK, size: int = 13, anchor: str = "start") -> str:
    """Words at a place."""
    return f'<text x="{at}" y="{y}" fill="{colour}" font-size="{size}" text-anchor="{anchor}">{words}</text>'


def line(x1: float, y1: float, x2: float, y2: float, colour: str = INK, extra: str = "") -> str:
    """A straight line."""
    return f'<line x1="{x1}" y1="{y1}" x2="{x2}" y2="{y2}" stroke="{colour}" {extra}/>'


def clockwork() -> Iterator[str]:
    """The upper panel: observations as they enter the log, windows below them, and when each becomes final."""
    yield text(20, 30, "One session: windows close by what its own modalities do", size=17)
    yield text(20, 52, "Observations, placed at their Kafka time", colour=FAINT)
    for modality, y in ROWS.items():
        yield text(20, y + 4, modality, colour=COLOURS[modality])
        yield line(LEFT, y, WIDTH - 30, y, "#e4e7eb")
    for kafka_ms, seen in log():
        yield f'<circle cx="{x(kafka_ms)}" cy="{ROWS[seen.modality]}" r="4" fill="{COLOURS[seen.modality]}"/>'
    yield text(x(START + 1750 + 180) + 10, ROWS["voice"] - 8, "muted", colour=FAINT, size=12)
    yield text(x(START + 2800 + 60) + 10, ROWS["face"] - 8, "the tab is closed", colour=FAINT, size=12)
    yield text(20, 190, "Windows, in event time, and the instant at which each is final (diamond)", colour=FAINT)
    y = 212
    for window, why in windows():
        begin, end, final = x(max(window.start_ms, START)), x(window.end_ms), x(window.closed_at_ms or 0)
        yield f'<rect x="{begin}" y="{y - 8}" width="{round(end - begin, 1)}" height="12" rx="3" fill="#d9e2ec"/>'
        yield line(end, y - 2, final, y - 2, FAINT, 'stroke-dasharray="2 3"')
        yield f'<path d="M{final} {y - 8} l6 6 l-6 6 l-6 -6 z" fill="{INK}"/>'
        yield text(final + 12, y + 2, why, colour=INK, size=12)
        y += 22
    yield line(LEFT, y + 2, WIDTH - 30, y + 2, FAINT)
    for second in range(6):
        yield line(x(START + 1000 * second), y - 2, x(START + 1000 * second), y + 6, FAINT)
        yield text(x(START + 1000 * second), y + 20, f"{second} s", colour=FAINT, size=12, anchor="middle")


def recovery(top: int) -> Iterator[str]:
    """The lower panel: a log, the place and T of the last commit, and what a new owner does with which part."""
    yield text(20, top, "A new owner: reads again, writes only what was not written", size=17)
    y, read_from, sure_from, written, end = top + 62, 180, 400, 700, 900
    yield line(LEFT, y, end, y, FAINT)
    for n in range(1 + (end - LEFT) // 15):
        yield line(LEFT + 15 * n, y - 5, LEFT + 15 * n, y + 5, "#cbd2d9")
    for left, right, colour in (
        (read_from, sure_from, "#d9e2ec"),
        (sure_from, written, "#9fb3c8"),
        (written, end, "#2563a8"),
    ):
        yield f'<rect x="{left}" y="{y - 9}" width="{right - left}" height="18" fill="{colour}" opacity="0.8"/>'
    for at, above in (
        (read_from, "the committed place:"),
        (written, "T, in the commit's note:"),
        (end, "the log's end"),
    ):
        yield line(at, y - 14, at, y + 14)
        yield text(at, y - 34, above, size=12, anchor="middle")
    yield text(read_from, y - 20, "K_T − 2 horizons", size=12, anchor="middle")
    yield text(written, y - 20, "written up to here", size=12, anchor="middle")
    yield text((read_from + sure_from) / 2, y + 32, "read, to judge the next ones by", size=12, anchor="middle")
    yield text((sure_from + written) / 2, y + 32, "windows built again, nothing written", size=12, anchor="middle")
    yield text((written + end) / 2, y + 32, "finals, in transactions", colour="#2563a8", size=12, anchor="middle")
    why = "The partition's transactional producer is started first: from then on its earlier owner can commit nothing."
    yield text(20, y + 62, why, colour=FAINT)


def picture() -> str:
    """The whole as SVG."""
    top = 212 + 22 * len(windows()) + 74
    height = top + 140
    parts = "\n".join((*clockwork(), *recovery(top)))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" font-family="sans-serif">\n'
        "<title>Event time: when windows close, and how a new owner recovers</title>\n"
        f'<rect width="{WIDTH}" height="{height}" fill="white"/>\n{parts}\n</svg>\n'
    )


if __name__ == "__main__":
    OUT.write_text(picture(), encoding="utf-8")
