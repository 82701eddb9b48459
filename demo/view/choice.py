"""Shows a board while it fills: a screen that moves where there is a terminal, plain lines where there is none."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from typing import Protocol

from rich.console import Console, Group
from rich.live import Live

from demo.sources import Source
from demo.view.board import Board
from demo.view.lines import Lines
from demo.view.screen import BANNER, Frame, render

SMALLEST = (72, 20)


class View(Protocol):
    """Something that can be drawn again and again."""

    every_s: float

    def start(self) -> None:
        """Take the terminal."""
        ...

    def draw(self, at_ms: int) -> None:
        """Show how things stand, `at_ms` from the session's start."""
        ...

    def stop(self) -> None:
        """Give the terminal back; idempotent."""
        ...


def choose_view(board: Board, source: Source, goal: str, footer: str, console: Console | None = None) -> View:
    """The view that suits where stdout goes."""
    console = console or Console()
    if can_move(console, os.environ):
        return ScreenView(console, board, source, goal, footer)
    return LineView(board, source, footer)


def can_move(console: Console, environment: Mapping[str, str]) -> bool:
    """Whether this is a terminal that can redraw, with somebody before it, and large enough."""
    if not console.is_terminal or console.is_dumb_terminal or environment.get("CI"):
        return False
    return console.size.width >= SMALLEST[0] and console.size.height >= SMALLEST[1]


class ScreenView:
    """The whole terminal, a few times a second."""

    every_s = 0.2

    def __init__(self, console: Console, board: Board, source: Source, goal: str, footer: str) -> None:
        self._console, self._board, self._source = console, board, source
        self._goal, self._footer = goal, footer
        self._live = Live(console=console, screen=True, auto_refresh=False)

    def start(self) -> None:
        """Switch to the terminal's other screen."""
        self._live.start()

    def draw(self, at_ms: int) -> None:
        """Redraw; follows the terminal's size."""
        face, voice = self._source.playing(at_ms)
        length = self._source.length_ms
        at_ms = min(at_ms, length) if length else at_ms
        frame = Frame(self._source.label, at_ms, length, face, voice, self._goal, f" {self._footer}")
        size = self._console.size
        self._live.update(Group(*render(self._board, frame, size.width, size.height)), refresh=True)

    def stop(self) -> None:
        """Back to the first screen, as it was."""
        self._live.stop()


class LineView:
    """Lines on stdout."""

    every_s = 0.25

    def __init__(self, board: Board, source: Source, footer: str) -> None:
        self._lines, self._source, self._footer = Lines(board), source, footer

    def start(self) -> None:
        """Say what will be seen."""
        self._say(f"{self._source.label}; {BANNER}")
        self._say(self._footer)

    def draw(self, at_ms: int) -> None:
        """Say what is new."""
        for line in self._lines.new(at_ms):
            self._say(line)

    def stop(self) -> None:
        """Nothing to give back."""

    def _say(self, line: str) -> None:
        sys.stdout.write(f"{line}\n")
        sys.stdout.flush()
