"""How a command leaves: its exit code when interrupted, and an end in time whatever a library has left running."""

from __future__ import annotations

import os
import sys
import threading

EXIT_FAILED, EXIT_INTERRUPTED = 70, 130
LEAVE_S = 5.0
"""How long a command that has ended may take to be gone."""
is_program = False
"""Whether this process is the command line and nothing else: then it may be ended."""


def leave_in_time(code: int, message: str = "") -> None:
    """End this program in `LEAVE_S`, if it hasn't by then: a library's task or thread can't keep it.

    Args:
        code: what to exit with.
        message: what the command would have said last, and can't if it never returns.
    """
    if not is_program:
        return

    def leave() -> None:
        left = [t.name for t in threading.enumerate() if not t.daemon and t is not threading.main_thread()]
        last = [message] if message else []
        sys.stderr.writelines(f"{line}\n" for line in [*last, f"left running: {', '.join(left) or 'tasks'}"])
        sys.stderr.flush()
        os._exit(code)

    timer = threading.Timer(LEAVE_S, leave)
    timer.daemon = True
    timer.start()
