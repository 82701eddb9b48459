"""What goes on at the start, told while it lasts: on a terminal one line that changes, else a line for each step."""

from __future__ import annotations

import sys
import threading

WIDTH = 78


class Progress:
    """Steps that go on side by side, each with a share done where that is known; may be told from any thread."""

    def __init__(self) -> None:
        self._going: dict[str, str] = {}
        self._lock = threading.Lock()
        self._moves = sys.stderr.isatty()
        self._stopped = False

    def __call__(self, step: str, what: str, share: float | None = None) -> None:
        """`what` a step does now.

        Raises:
            InterruptedError: nobody waits for it any more: a step in a thread ends here.
        """
        if self._stopped:
            raise InterruptedError(what)
        with self._lock:
            new = self._going.get(step, "").rstrip("0123456789% ").split(":")[0] != what.split(":", maxsplit=1)[0]
            self._going[step] = what if share is None else f"{what} {share:.0%}"
            if self._moves:
                sys.stderr.write(f"\r\033[K{' · '.join(self._going.values())[:WIDTH]}")
            elif new:
                sys.stderr.write(f"{what}\n")
            sys.stderr.flush()

    def done(self, step: str) -> None:
        """A step is over; forgets it."""
        with self._lock:
            self._going.pop(step, None)
            if self._moves:
                sys.stderr.write(f"\r\033[K{' · '.join(self._going.values())[:WIDTH]}")
                sys.stderr.flush()

    def stop(self) -> None:
        """Let every step end at the next thing it tells."""
        self._stopped = True
