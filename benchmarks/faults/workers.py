"""Worker processes to cause faults with: start `python -m streamer run`, kill, pause, resume or terminate it.

A shell watches a pipe from this process and kills the worker when the pipe closes, so no worker outlives a benchmark
that crashed.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

from streamer.errors import StreamerError

READY_S = 60
LEAVE_S = 20
LOG_LINES = 20
OPERATOR = "fuse_affect"
_WATCHED = 'exec 3<&0; { read -r line <&3 || kill -9 $$; } </dev/null >/dev/null 2>&1 & exec "$@" </dev/null 3<&-'


class Worker:
    """One process that runs the operator `OPERATOR`, with a name (static group membership) or without.

    Args:
        topology: the topology file.
        address: Kafka's bootstrap server.
        log: the file for its stdout and stderr.
        name: STREAMER_WORKER, if any.
    """

    def __init__(self, topology: Path, address: str, log: Path, name: str | None) -> None:
        self._topology, self._address, self._log, self.name = topology, address, log, name
        self._process: asyncio.subprocess.Process | None = None
        self._end_expected = False

    @property
    def died(self) -> bool:
        """Whether it ended without `kill` or `leave`."""
        return self._process is not None and self._process.returncode is not None and not self._end_expected

    @property
    def pid(self) -> int:
        """The process id, 0 before the first start."""
        return self._process.pid if self._process else 0

    @property
    def is_running(self) -> bool:
        """Whether the process exists, paused or not."""
        return self._process is not None and self._process.returncode is None

    async def start(self) -> None:
        """Start, or start again, and wait until it has joined its consumer group.

        Raises:
            StreamerError: it ended or took too long; with the end of its log.
        """
        inherited = {k: v for k, v in os.environ.items() if not k.startswith("STREAMER_") or k == "STREAMER_CACHE"}
        named = {"STREAMER_WORKER": self.name} if self.name else {}
        command = (sys.executable, "-m", "streamer", "run", "--topology", str(self._topology), "--only", OPERATOR)
        self._end_expected = False
        log_start = self._log.stat().st_size if self._log.exists() else 0
        with self._log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                "/bin/sh", "-c", _WATCHED, "worker", *command, stdin=asyncio.subprocess.PIPE, stdout=log, stderr=log,
                env={**inherited, "STREAMER_BROKERS": self._address, "STREAMER_CONTEXT": "research", **named},
                start_new_session=True,
            )  # fmt: skip
        try:
            async with asyncio.timeout(READY_S):
                while "\nready:" not in self._log.read_text(errors="replace")[log_start:]:
                    if not self.is_running:
                        raise StreamerError(f"a worker ended with {self._process.returncode}:\n{self.log_tail()}")
                    await asyncio.sleep(0.05)
        except TimeoutError:
            raise StreamerError(f"a worker was not ready within {READY_S} s:\n{self.log_tail()}") from None

    async def kill(self) -> None:
        """Send SIGKILL and wait for the end."""
        self._end_expected |= self.is_running
        self._signal(signal.SIGKILL)
        await self._ended()

    def pause(self) -> None:
        """Send SIGSTOP."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Send SIGCONT."""
        self._signal(signal.SIGCONT)

    async def leave(self) -> None:
        """Send SIGTERM: it finishes its batch and leaves the group; SIGKILL after `LEAVE_S`.

        Raises:
            StreamerError: it did not leave in time, or not with exit code 0; with the end of its log.
        """
        self._end_expected |= self.is_running
        self._signal(signal.SIGTERM)
        try:
            await asyncio.wait_for(self._ended(), LEAVE_S)
        except TimeoutError:
            await self.kill()
            raise StreamerError(f"a worker did not leave within {LEAVE_S} s:\n{self.log_tail()}") from None
        if self._process and self._process.returncode:
            code = self._process.returncode
            raise StreamerError(f"a worker that was asked to leave ended with {code}:\n{self.log_tail()}")

    def _signal(self, number: signal.Signals) -> None:
        if self._process and self.is_running:
            self._process.send_signal(number)

    async def _ended(self) -> None:
        if self._process:
            await self._process.wait()
            if self._process.stdin and not self._process.stdin.is_closing():
                self._process.stdin.write(b"ended\n")
                self._process.stdin.close()

    def log_tail(self) -> str:
        """The last lines of its log."""
        return "\n".join(self._log.read_text(errors="replace").splitlines()[-LOG_LINES:])
