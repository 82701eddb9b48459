"""Display a board while it changes: full-screen in a terminal, as plain lines elsewhere."""

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

SIZE_MIN = (72, 20)
"""Columns and rows for the full-screen view."""


class View(Protocol):
    """Displays a board; `draw` is called every `every_s` seconds."""

    every_s: float

    def start(self) -> None:
        """Prepare the terminal."""
        ...

    def draw(self, at_ms: int) -> None:
        """Display the state, `at_ms` from the session's start."""
        ...

    def stop(self) -> None:
        """Restore the terminal; idempotent."""
        ...


def choose_view(board: Board, source: Source, goal: str, footer: str, console: Console | None = None) -> View:
    """Choose the view for stdout (or another console)."""
    console = console or Console()
    if can_redraw(console, os.environ):
        return ScreenView(console, board, source, goal, footer)
    return LineView(board, source, footer)


def can_redraw(console: Console, environment: Mapping[str, str]) -> bool:
    """Whether this is an interactive terminal that can move its cursor and is large enough."""
    if not console.is_terminal or console.is_dumb_terminal or environment.get("CI"):
        return False
    return console.size.width >= SIZE_MIN[0] and console.size.height >= SIZE_MIN[1]


class ScreenView:
    """Fills the terminal and redraws it five times a second."""

    every_s = 0.2

    def __init__(self, console: Console, board: Board, source: Source, goal: str, footer: str) -> None:
        self._console, self._board, self._source = console, board, source
        self._goal, self._footer = goal, footer
        self._live = Live(console=console, screen=True, auto_refresh=False)

    def start(self) -> None:
        """Switch to the terminal's alternate screen."""
        self._live.start()

    def draw(self, at_ms: int) -> None:
        """Redraw the screen in the terminal's current size."""
        face, voice = self._source.playing(at_ms)
        length = self._source.length_ms
        at_ms = min(at_ms, length) if length else at_ms
        frame = Frame(self._source.label, at_ms, length, face, voice, self._goal, f" {self._footer}")
        size = self._console.size
        self._live.update(Group(*render(self._board, frame, size.width, size.height)), refresh=True)

    def stop(self) -> None:
        """Switch back to the primary screen."""
        self._live.stop()


class LineView:
    """Prints lines to stdout."""

    every_s = 0.25

    def __init__(self, board: Board, source: Source, footer: str) -> None:
        self._lines, self._source, self._footer = Lines(board), source, footer

    def start(self) -> None:
        """Print what is played."""
        self._print(f"{self._source.label}; {BANNER}")
        self._print(self._footer)

    def draw(self, at_ms: int) -> None:
        """Print what is new."""
        for line in self._lines.new(at_ms):
            self._print(line)

    def stop(self) -> None:
        """There is nothing to restore."""

    def _print(self, line: str) -> None:
        sys.stdout.write(f"{line}\n")
        sys.stdout.flush()
