"""When an operator raises: retry, then isolate the record and make it a dead letter; stop after a bad deploy."""

from __future__ import annotations

import asyncio
import traceback
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

from streamer.errors import CircuitOpenError, StreamerError
from streamer.operator import Context
from streamer.payloads import DeadLetter, LateRecord, Refusal
from streamer.records import Record
from streamer.topology.topology import OnFailure

In = TypeVar("In")
Out = TypeVar("Out")
BACKOFF_MS = 50


class CircuitBreaker:
    """Stops an operator that fails for most records, instead of turning its topic into dead letters.

    Only failures of the operator count (reason `failed`), not records that can't be decoded.
    """

    def __init__(self, operator: str, *, window: int = 200, least: int = 20, share: float = 0.5) -> None:
        self._operator, self._least, self._share = operator, least, share
        self._recent: deque[bool] = deque(maxlen=window)

    def count(self, failed: bool) -> None:
        """Count one record.

        Raises:
            CircuitOpenError: more than `share` of the last ones failed.
        """
        self._recent.append(failed)
        failures = sum(self._recent)
        if len(self._recent) >= self._least and failures > self._share * len(self._recent):
            raise CircuitOpenError(
                f"{self._operator}: {failures} of the last {len(self._recent)} records failed, so it stopped: "
                "dead_letters has the reasons; mend the operator and start again, it resumes at the last commit"
            )


class RetryPolicy:
    """Runs an operator's step with retries, as its `on_failure` says."""

    def __init__(self, rule: OnFailure, context: Context) -> None:
        self._rule, self._context, self._circuit_breaker = rule, context, CircuitBreaker(context.operator)

    async def run(
        self,
        step: Callable[[Sequence[In]], Awaitable[Sequence[Out]]],
        batch: Sequence[In],
        refuse: Callable[[In, Refusal], Out],
    ) -> Sequence[Out]:
        """Run a step on a batch; one that keeps failing is run record by record, and those that fail are refused.

        Raises:
            CircuitOpenError: nearly everything fails.
            Exception: the step's own, where `then` is `stop`; a StreamerError always (it says what to do).
        """
        if not batch:
            return ()
        try:
            outputs = await self._retrying(step, batch)
        except StreamerError:
            raise
        except Exception as error:
            if self._rule.then == "stop":
                raise
            if len(batch) == 1:
                return (self._give_up(batch[0], error, refuse),)
            self._context.log.warning("%s: batch of %d failed, trying one by one", self._context.operator, len(batch))
            return [out for one in batch for out in await self.run(step, [one], refuse)]
        for _ in batch:
            self._circuit_breaker.count(failed=False)
        return outputs

    async def _retrying(
        self, step: Callable[[Sequence[In]], Awaitable[Sequence[Out]]], batch: Sequence[In]
    ) -> Sequence[Out]:
        for attempt in range(self._rule.retries):
            try:
                return await step(batch)
            except (StreamerError, asyncio.CancelledError):
                raise
            except Exception:  # noqa: BLE001, PERF203 - whatever an operator raises is retried, then named in a dead letter
                await self._context.clock.sleep_ms(BACKOFF_MS * 2**attempt)
        return await step(batch)

    def _give_up(self, one: In, error: Exception, refuse: Callable[[In, Refusal], Out]) -> Out:
        frames = "".join(traceback.format_tb(error.__traceback__))  # without the message: it may quote the record
        self._context.log.error(
            "%s: a record failed for good: %s\n%s", self._context.operator, type(error).__name__, frames
        )
        self._circuit_breaker.count(failed=True)
        frame = error.__traceback__
        while frame is not None and frame.tb_next is not None:
            frame = frame.tb_next
        place = f" at {frame.tb_frame.f_code.co_name}:{frame.tb_lineno}" if frame else ""
        return refuse(one, Refusal("failed", f"{type(error).__name__}{place}"))


def dead_letter(record: Record[Any], refusal: Refusal, context: Context, *, late: bool = False) -> DeadLetter:
    """The dead letter of a refused record: its origin and the reason, never its payload."""
    kind = LateRecord if late else DeadLetter
    return kind(
        event_time_ms=context.clock.now_ms(),
        operator=context.operator,
        topic=record.origin.topic,
        partition=record.origin.partition,
        offset=record.origin.offset,
        key=record.key.encode(errors="surrogateescape") or None,
        kafka_ms=record.kafka_ms,
        reason=refusal.reason,
        detail=refusal.detail,
    )
