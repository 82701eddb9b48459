"""Worker processes in, faults out: `python -m streamer run` started, killed, stopped in its tracks, woken, asked to go.

A watcher on a pipe ends a worker whose parent is gone, however that happened.
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
LAST_WORDS = 20
OPERATOR = "fuse_affect"
_GUARD = 'exec 3<&0; { read -r line <&3 || kill -9 $$; } </dev/null >/dev/null 2>&1 & exec "$@" </dev/null 3<&-'


class Worker:
    """One process that runs one operator, with a name (static group membership) or without.

    Args:
        topology: the picture it runs.
        address: of Kafka.
        log: where its standard error goes.
        name: STREAMER_WORKER.
    """

    def __init__(self, topology: Path, address: str, log: Path, name: str | None) -> None:
        self._topology, self._address, self._log, self.name = topology, address, log, name
        self._process: asyncio.subprocess.Process | None = None
        self._may_end = False

    @property
    def died(self) -> bool:
        """Whether it ended though nobody killed it or asked it to leave."""
        return self._process is not None and self._process.returncode is not None and not self._may_end

    @property
    def pid(self) -> int:
        """Its process, 0 before it has been started."""
        return self._process.pid if self._process else 0

    @property
    def runs(self) -> bool:
        """Whether it is alive, if only stopped in its tracks."""
        return self._process is not None and self._process.returncode is None

    async def start(self) -> None:
        """Start, or start again; returns once it is ready: it has joined its group.

        Raises:
            StreamerError: it ended, or took too long; its last words.
        """
        clean = {k: v for k, v in os.environ.items() if not k.startswith("STREAMER_") or k == "STREAMER_CACHE"}
        own = {"STREAMER_WORKER": self.name} if self.name else {}
        command = (sys.executable, "-m", "streamer", "run", "--topology", str(self._topology), "--only", OPERATOR)
        self._may_end = False
        begun = self._log.stat().st_size if self._log.exists() else 0
        with self._log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                "/bin/sh", "-c", _GUARD, "worker", *command, stdin=asyncio.subprocess.PIPE, stdout=log, stderr=log,
                env={**clean, "STREAMER_BROKERS": self._address, "STREAMER_CONTEXT": "research", **own},
                start_new_session=True,
            )  # fmt: skip
        try:
            async with asyncio.timeout(READY_S):
                while "\nready:" not in self._log.read_text(errors="replace")[begun:]:
                    if not self.runs:
                        raise StreamerError(f"a worker ended with {self._process.returncode}:\n{self.last_words()}")
                    await asyncio.sleep(0.05)
        except TimeoutError:
            raise StreamerError(f"a worker was not ready within {READY_S} s:\n{self.last_words()}") from None

    async def kill(self) -> None:
        """SIGKILL, and wait for its end."""
        self._may_end |= self.runs
        self._signal(signal.SIGKILL)
        await self._ended()

    def pause(self) -> None:
        """SIGSTOP."""
        self._signal(signal.SIGSTOP)

    def wake(self) -> None:
        """SIGCONT."""
        self._signal(signal.SIGCONT)

    async def leave(self) -> None:
        """SIGTERM: it finishes what is in hand and leaves its group; killed if it doesn't.

        Raises:
            StreamerError: it did not leave in time, or not with exit code 0; its last words.
        """
        self._may_end |= self.runs
        self._signal(signal.SIGTERM)
        try:
            await asyncio.wait_for(self._ended(), LEAVE_S)
        except TimeoutError:
            await self.kill()
            raise StreamerError(f"a worker did not leave within {LEAVE_S} s:\n{self.last_words()}") from None
        if self._process and self._process.returncode:
            code = self._process.returncode
            raise StreamerError(f"a worker that was asked to leave ended with {code}:\n{self.last_words()}")

    def _signal(self, number: signal.Signals) -> None:
        if self._process and self.runs:
            self._process.send_signal(number)

    async def _ended(self) -> None:
        if self._process:
            await self._process.wait()
            if self._process.stdin and not self._process.stdin.is_closing():
                self._process.stdin.write(b"ended\n")
                self._process.stdin.close()

    def last_words(self) -> str:
        """The end of what it said."""
        return "\n".join(self._log.read_text(errors="replace").splitlines()[-LAST_WORDS:])
