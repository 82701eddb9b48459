"""Every error that this project raises, with its exit code and whether it can be retried.

Exit codes follow sysexits.h: 64 usage, 65 bad input data, 69 a service is unavailable, 70 the software failed,
74 input/output, 77 not permitted, 78 bad configuration.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


class StreamerError(Exception):
    """Any failure that this project names; `exit_code` is what the command line ends with."""

    exit_code = 70
    retriable = False


@dataclass(frozen=True, slots=True)
class Problem:
    """One mistake in a configuration: where it is, what is wrong, what to do."""

    path: str
    message: str

    def __str__(self) -> str:
        return f"{self.path}: {self.message}"


class ConfigurationError(StreamerError, ValueError):
    """A file or a setting is wrong; carries every problem found, not only the first."""

    exit_code = 78

    def __init__(self, source: str, problems: Sequence[Problem]) -> None:
        self.source = source
        self.problems = tuple(problems)
        lines = "\n".join(f"  {p}" for p in self.problems)
        count = len(self.problems)
        super().__init__(f"{source}: {count} problem{'' if count == 1 else 's'}\n{lines}")


class RefusedUseError(StreamerError, ValueError):
    """This use of affect sensing is refused (DESIGN §9: context, licence)."""

    exit_code = 77


class BrokerUnreachableError(StreamerError):
    """No Kafka answers at the address given."""

    exit_code = 69
    retriable = True


class TopicMismatchError(StreamerError, ValueError):
    """A topic exists, but not as the topology says (partitions, timestamp type)."""

    exit_code = 78


class LocalKafkaError(StreamerError):
    """The embedded Kafka could not be started: port in use, no space for its jars, no Java runtime."""

    exit_code = 69


class FencedError(StreamerError):
    """Another worker owns this partition now: drop its state and rejoin the group."""

    retriable = True


class PayloadError(StreamerError, ValueError):
    """A record's value is not what its topic promises; `reason` is the stable code, `detail` never holds payload."""

    exit_code = 65

    def __init__(self, reason: str, detail: str) -> None:
        self.reason = reason
        self.detail = detail
        super().__init__(f"{reason}: {detail}")


class MediaError(StreamerError, ValueError):
    """A media file, session folder or recording can't be replayed; names the file and what is wrong with it."""

    exit_code = 65


class ModelError(StreamerError, ValueError):
    """A model folder is incomplete, altered, or can't run on this machine; lists every backend's reasons."""

    exit_code = 78


class CircuitOpenError(StreamerError):
    """An operator fails for nearly every record: it stops instead of turning its topic into dead letters."""

    exit_code = 70
