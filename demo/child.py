"""Run `streamer run` as a child process of the demo."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from streamer.errors import StreamerError

CHECKOUT = Path(__file__).parent.parent
READY_S = 60.0
LOG_LINES = 12

# The shell becomes `streamer run`; its background child reads the demo's pipe and ends it when the pipe closes.
_WATCHED = """
exec 3<&0
{ read -r line <&3 || { kill $$; sleep 5; kill -9 $$; }; } </dev/null >/dev/null 2>&1 &
exec "$@" </dev/null 3<&-
"""


class OperatorsError(StreamerError):
    """`streamer run` did not start, or ended by itself; with its error message or the end of its log."""

    def __init__(self, code: int | None, log: Path) -> None:
        lines = log.read_text(errors="replace").splitlines() if log.exists() else []
        errors = [n for n, line in enumerate(lines) if line.startswith("error:")]
        shown = lines[errors[-1] :] if errors else lines[-LOG_LINES:]
        ended = f"ended with exit code {code}" if code is not None else f"was not ready within {READY_S:.0f} s"
        super().__init__(f"streamer run {ended}:\n" + "\n".join(f"  {line}" for line in shown))
        if code is not None and code > 0:
            self.exit_code = code


class Operators:
    """The process of `streamer run`, started by the constructor; it is ended with the demo, even if that crashes.

    Args:
        log: the file for its stdout and stderr.
        environment: added to this process's.
    """

    def __init__(self, log: Path, environment: Mapping[str, str]) -> None:
        self._log = log
        command = [sys.executable, "-m", "streamer", "run", "--topology", str(CHECKOUT / "topology.yaml")]
        with log.open("wb") as file:
            self._process = subprocess.Popen(  # noqa: S603 - our own command line
                ["/bin/sh", "-c", _WATCHED, "streamer", *command],
                stdin=subprocess.PIPE, stdout=file, stderr=file, start_new_session=True, cwd=CHECKOUT,
                env={**os.environ, "PYTHONUNBUFFERED": "1", **environment},
            )  # fmt: skip

    async def ready(self) -> None:
        """Wait until all operators read their topics.

        Raises:
            OperatorsError: the process ended before, or took too long.
        """
        for _ in range(int(READY_S / 0.05)):
            self.check()
            if any(line.startswith("ready:") for line in self._log.read_text(errors="replace").splitlines()):
                return
            await asyncio.sleep(0.05)
        raise OperatorsError(None, self._log)

    def check(self) -> None:
        """Raise if the process has ended.

        Raises:
            OperatorsError: with the end of its log.
        """
        code = self._process.poll()
        if code is not None:
            raise OperatorsError(code, self._log)

    def resident_bytes(self) -> int:
        """Resident memory of the process; 0 once it has ended."""
        import psutil

        with contextlib.suppress(psutil.Error):
            return int(psutil.Process(self._process.pid).memory_info().rss)
        return 0

    async def stop(self, timeout_s: float) -> None:
        """Terminate the process, and kill it after `timeout_s`; idempotent."""
        process = self._process
        if process.poll() is None:
            process.terminate()
            for _ in range(int(timeout_s / 0.05)):
                if process.poll() is not None:
                    break
                await asyncio.sleep(0.05)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # the shell's child, and a process that ignored SIGTERM
        process.wait()
        if process.stdin is not None:
            process.stdin.close()
