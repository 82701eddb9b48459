"""`streamer run` as a process of its own: an environment in; out a process that is ready, or why it is not."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from streamer.errors import StreamerError

CHECKOUT = Path(__file__).parent.parent
READY_S = 60.0
LAST_WORDS = 12

# The shell becomes `streamer run`; its child reads the pipe, whose end means that the demo is gone: then it goes too.
_GUARD = """
exec 3<&0
{ read -r line <&3 || { kill $$; sleep 5; kill -9 $$; }; } </dev/null >/dev/null 2>&1 &
exec "$@" </dev/null 3<&-
"""


class OperatorsError(StreamerError):
    """`streamer run` did not start, or ended by itself; carries its last words."""

    def __init__(self, code: int | None, log: Path) -> None:
        lines = log.read_text(errors="replace").splitlines() if log.exists() else []
        errors = [n for n, line in enumerate(lines) if line.startswith("error:")]
        told = lines[errors[-1] :] if errors else lines[-LAST_WORDS:]
        ended = f"ended with exit code {code}" if code is not None else f"was not ready within {READY_S:.0f} s"
        super().__init__(f"streamer run {ended}:\n" + "\n".join(f"  {line}" for line in told))
        if code is not None and code > 0:
            self.exit_code = code


class Operators:
    """The operators' process: started at once, `ready` when they are; nothing of it outlives the demo."""

    def __init__(self, log: Path, environment: Mapping[str, str], arguments: Sequence[str] = ()) -> None:
        self._log = log
        command = [sys.executable, "-m", "streamer", "run", "--topology", str(CHECKOUT / "topology.yaml"), *arguments]
        with log.open("wb") as file:
            self._process = subprocess.Popen(  # noqa: S603 - our own command line
                ["/bin/sh", "-c", _GUARD, "streamer", *command],
                stdin=subprocess.PIPE, stdout=file, stderr=file, start_new_session=True, cwd=CHECKOUT,
                env={**os.environ, "PYTHONUNBUFFERED": "1", **environment},
            )  # fmt: skip

    async def ready(self) -> None:
        """Return when all operators read.

        Raises:
            OperatorsError: they ended before, or took too long.
        """
        for _ in range(int(READY_S / 0.05)):
            self.check()
            if any(line.startswith("ready:") for line in self._log.read_text(errors="replace").splitlines()):
                return
            await asyncio.sleep(0.05)
        raise OperatorsError(None, self._log)

    def check(self) -> None:
        """Raise if they ended by themselves.

        Raises:
            OperatorsError: with their last words.
        """
        code = self._process.poll()
        if code is not None:
            raise OperatorsError(code, self._log)

    def resident_bytes(self) -> int:
        """Their memory; 0 once they have ended."""
        import psutil

        with contextlib.suppress(psutil.Error):
            return int(psutil.Process(self._process.pid).memory_info().rss)
        return 0

    async def stop(self, patience_s: float) -> None:
        """Let them finish for so long, then end them; idempotent."""
        process = self._process
        if process.poll() is None:
            process.terminate()
            for _ in range(int(patience_s / 0.05)):
                if process.poll() is not None:
                    break
                await asyncio.sleep(0.05)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # whatever is left: the guard, and a process that did not listen
        process.wait()
        if process.stdin is not None:
            process.stdin.close()
