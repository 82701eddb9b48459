"""Print the progress of starting: on a terminal one line that is rewritten, else a line for each step."""

from __future__ import annotations

import sys
import threading

WIDTH = 78


class Progress:
    """Concurrent steps, each with the share done where that is known; can be called from any thread."""

    def __init__(self) -> None:
        self._steps: dict[str, str] = {}
        self._lock = threading.Lock()
        self._rewrites = sys.stderr.isatty()
        self._stopped = False

    def __call__(self, step: str, what: str, share: float | None = None) -> None:
        """Report what a step does now, and the share done (0..1).

        Raises:
            InterruptedError: after `stop`; ends a step that runs in a thread.
        """
        if self._stopped:
            raise InterruptedError(what)
        with self._lock:
            new = self._steps.get(step, "").rstrip("0123456789% ").split(":")[0] != what.split(":", maxsplit=1)[0]
            self._steps[step] = what if share is None else f"{what} {share:.0%}"
            if self._rewrites:
                sys.stderr.write(f"\r\033[K{' · '.join(self._steps.values())[:WIDTH]}")
            elif new:
                sys.stderr.write(f"{what}\n")
            sys.stderr.flush()

    def done(self, step: str) -> None:
        """Remove a step that is over."""
        with self._lock:
            self._steps.pop(step, None)
            if self._rewrites:
                sys.stderr.write(f"\r\033[K{' · '.join(self._steps.values())[:WIDTH]}")
                sys.stderr.flush()

    def stop(self) -> None:
        """Make the next report of every step raise InterruptedError."""
        self._stopped = True
