"""A topology's operators in one process: opened together, run side by side, stopped together."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Protocol

from streamer.broker import Broker
from streamer.errors import ConfigurationError, Problem, StreamerError
from streamer.event_time import Clock, SystemClock
from streamer.operator import Context
from streamer.runtime.audit_trail import AUDIT, write_start_entries
from streamer.runtime.runner import Runner
from streamer.settings import Settings
from streamer.topology.rights import needed_rights
from streamer.topology.topology import OperatorSpec, Topology

DRAIN_S = 5.0
"""How long operators may take to finish what they have polled; then how long to stop once cancelled."""
REOPEN_S, REOPEN_AT_MOST_S = 0.2, 5.0
"""Pause before an operator is opened again after an outage or a fencing; doubled each time until it lasts."""
LASTED_S = 10.0

log = logging.getLogger("streamer")


class Host(Protocol):
    """What runs one operator: the runner, or Faust."""

    name: str

    async def open(self) -> None:
        """Connect and warm up; may be called again after `run` has ended or `open` has failed."""
        ...

    async def run(self) -> None:
        """Run until `close`."""
        ...

    def close(self) -> None:
        """Poll no more; finish what was polled."""
        ...

    async def stop(self) -> None:
        """Release everything; idempotent."""
        ...


class Pipeline:
    """Runs operators of a topology until `close`; the first one that fails stops the others and is raised.

    Args:
        topology: which operators there are.
        settings: this deployment's.
        broker: where the topics are.
        clock: the machine's, or a simulated one.
        only: the operators to run; all of them where it is empty.
        faust: builds the host of operators marked `host: faust`; None runs them on the plain runner.
    """

    def __init__(
        self,
        topology: Topology,
        settings: Settings,
        broker: Broker,
        *,
        clock: Clock | None = None,
        only: Sequence[str] = (),
        faust: Callable[[OperatorSpec, Context], Host] | None = None,
    ) -> None:
        unknown = [name for name in only if name not in topology.operators]
        if unknown:
            known = ", ".join(topology.operators)
            raise ConfigurationError(
                "--only", [Problem(name, f"no such operator; there are {known}") for name in unknown]
            )
        self.topology, self._broker, self._settings = topology, broker, settings
        self._closing = asyncio.Event()
        self.names = tuple(name for name in topology.operators if not only or name in only)
        self.runners: list[Runner] = []
        self.hosts: list[Host] = []
        self._contexts: list[Context] = []
        reported: set[str] = set()
        for name in self.names:
            spec = topology.operators[name]
            tables: dict[str, dict[str, Any]] = {table: {} for table in spec.tables}
            own = logging.getLogger(f"streamer.{name}")
            audits = AUDIT in topology.topics
            context = Context(
                name, settings, clock or SystemClock(), log=own, tables=tables, audits=audits,
                modalities=topology.modalities, reported_elsewhere=frozenset(reported & set(spec.tables)),
            )  # fmt: skip
            reported |= set(spec.tables)
            self._contexts.append(context)
            if spec.host == "faust" and faust is not None:
                self.hosts.append(faust(spec, context))
            else:
                self.runners.append(Runner(spec, topology, broker, context))

    async def open(self) -> None:
        """Create or check the topics, then open every operator, all at once.

        Raises:
            StreamerError: what is missing, and what to do.
        """
        rights = needed_rights(self.topology, self.names)
        await self._broker.require_rights(rights)
        await self._broker.ensure_topics(self.topology.topic_specs())
        await self._broker.require_rights(rights)  # on the topics that were created
        hosts = (*self.runners, *self.hosts)
        opened = await asyncio.gather(*(host.open() for host in hosts), return_exceptions=True)
        failures = [error for error in opened if error is not None]
        try:
            await write_start_entries(self._broker, self.topology, self._settings, self._contexts, failures)
        except BaseException:
            await self.stop()
            raise
        if failures:
            await self.stop()
            raise failures[0]

    @property
    def closing(self) -> bool:
        """Whether `close` was called."""
        return self._closing.is_set()

    def close(self) -> None:
        """Poll no more; `run` returns when all operators have finished."""
        self._closing.set()
        for host in (*self.runners, *self.hosts):
            host.close()

    async def run(self) -> None:
        """Run until `close`, or until an operator fails for good.

        An operator whose broker has gone, or that was fenced, drops its state and is opened again, as after a crash.

        Raises:
            StreamerError: the first operator's failure; the others have finished what they had polled.
        """
        tasks = [asyncio.create_task(self._keep(host)) for host in (*self.runners, *self.hosts)]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self.close()
            _, late = await asyncio.wait(tasks, timeout=DRAIN_S)
            for task in late:
                task.cancel()
            if late:
                log.warning("%d operators did not finish within %g s: they drop what is in hand", len(late), DRAIN_S)
                await asyncio.wait(late, timeout=DRAIN_S)
        failures = [task.exception() for task in tasks if task.done() and not task.cancelled()]
        for failure in failures:
            if failure is not None:
                raise failure

    async def _keep(self, host: Host) -> None:
        loop, pause_s = asyncio.get_running_loop(), REOPEN_S
        while not self._closing.is_set():
            begun_s = loop.time()
            try:
                return await host.run()
            except StreamerError as error:
                if not error.retriable or self._closing.is_set():
                    raise
                log.warning("%s stopped, and is opened again as soon as it can be: %s", host.name, error)
            lasted = loop.time() - begun_s > LASTED_S
            pause_s = REOPEN_S if lasted else min(2 * pause_s, REOPEN_AT_MOST_S)
            await self._reopen(host, pause_s)
        await host.stop()  # told to stop while it opened: what has not run releases nothing by itself

    async def _reopen(self, host: Host, pause_s: float) -> None:
        """Open a host again and again, ever more slowly, until it is open or `close` is called."""
        while not await self._closed_within(pause_s):
            try:
                await host.open()
            except StreamerError as error:
                if not error.retriable:
                    raise
                await host.stop()
                pause_s = min(2 * pause_s, REOPEN_AT_MOST_S)
            else:
                log.warning("%s runs again, from its last commit on", host.name)
                return

    async def _closed_within(self, seconds: float) -> bool:
        with suppress(TimeoutError):
            await asyncio.wait_for(self._closing.wait(), seconds)
        return self._closing.is_set()

    async def stop(self) -> None:
        """Release everything without having run (a simulation steps the runners itself)."""
        for host in (*self.runners, *self.hosts):
            await host.stop()
