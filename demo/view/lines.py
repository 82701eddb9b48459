"""Write a board as plain lines, a few per second: for pipes, logs and terminals that can't move their cursor."""

from __future__ import annotations

from collections.abc import Iterator

from demo.view.board import Board, clock_text, likeliest

STATUS_MS = 1000
NOTES_AT_ONCE = 3


class Lines:
    """Yields the board's new notes, and once a second a line with its state."""

    def __init__(self, board: Board) -> None:
        self._board = board
        self._printed = 0
        self._status_ms = -STATUS_MS

    def new(self, at_ms: int) -> Iterator[str]:
        """Yield the lines that are due `at_ms` from the start."""
        notes = self._board.notes[self._printed :]
        self._printed = len(self._board.notes)
        for note in notes[-NOTES_AT_ONCE:]:
            yield f"{clock_text(note.at_ms)}  {note.text}"
        if at_ms - self._status_ms >= STATUS_MS:
            self._status_ms = at_ms
            yield f"{clock_text(at_ms)}  {status(self._board)}"


def status(board: Board) -> str:
    """The state of the board in one line."""
    event = board.newest
    if event is None:
        return "no window yet"
    top = likeliest(event.emotions)
    parts = [f"{top[0]} {top[1]:.2f}" if top else "no estimate"]
    if event.valence is not None and event.arousal is not None:
        parts.append(f"valence {event.valence:+.2f} arousal {event.arousal:+.2f}")
    states = [
        f"{m} {event.modalities[m].state} {event.modalities[m].weight:.2f}"
        for m in board.modalities
        if m in event.modalities
    ]
    parts.append(" ".join(states))
    parts.append(f"conflict {event.conflict:.2f}")
    p50 = board.latency_ms(0.5)
    if p50 is not None:
        parts.append(f"p50 {p50} ms")
    if board.ranked is not None and board.ranked.items:
        parts.append(f"first: {board.title(board.ranked.items[0].item_id)}")
    return " · ".join(part for part in parts if part)
