"""Each guarantee is taken out of a copy of the tree, one at a time: a test that is named here must then fail.

The tests run in a process of their own, against the copy. `old` must stand in the file exactly once, so that a list
that no longer fits the code is noticed.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
CODE = ("streamer", "operators", "kernels", "tests")
BESIDE = ("models", "demo", "benchmarks", "topology.yaml", "pyproject.toml", "README.md")


@dataclass(frozen=True)
class Mutation:
    """What is taken out where, and the test that must notice."""

    what: str
    file: str
    old: str
    new: str
    test: str


RUNNER = "tests/streamer/runtime/test_runner.py"
EXACT = "tests/streamer/runtime/test_exactly_once.py"
GROUPS = "tests/streamer/brokers/test_broker_groups.py"
MUTATIONS = (
    Mutation(
        "T-suppression", "streamer/runtime/window_operator.py",
        "fresh = record.origin.offset, record.origin.offset > state.written_up_to",
        "fresh = record.origin.offset, True",
        f"{RUNNER}::test_a_worker_that_starts_again_repeats_no_final_and_changes_none",
    ),
    Mutation(
        "fencing", "streamer/runtime/transactions.py",
        'f"{self._name}.{partition.partition}"', 'f"{self._name}.{partition.partition}.{id(self)}"',
        f"{EXACT}::test_a_zombie_that_wakes_up_writes_nothing_more",
    ),
    Mutation(
        "fencing before the place is read", "streamer/runtime/runner.py",
        """            await self._transactions.open(partition)
        if self._windowed is not None:
            committed = await self._consumer.committed(partition)
""",
        """            committed = await self._consumer.committed(partition)
            await self._transactions.open(partition)
        if self._windowed is not None:
""",
        f"{EXACT}::test_an_owner_is_fenced_before_its_place_is_read",
    ),
    Mutation(
        "the range assignor", "streamer/brokers/kafka/consumer.py",
        "from aiokafka.coordinator.assignors.range import RangePartitionAssignor",
        "from aiokafka.coordinator.assignors.roundrobin import RoundRobinPartitionAssignor as RangePartitionAssignor",
        f"{GROUPS}::test_topics_of_one_application_are_divided_alike[kafka]",
    ),
    Mutation(
        "ticks", "streamer/runtime/window_operator.py",
        "            if caught_up(partition):\n", "            if not partition:\n",
        f"{RUNNER}::test_the_last_windows_of_a_quiet_partition_close_within_100_ms_of_their_instant",
    ),
    Mutation(
        "ticks wait for a backlog", "streamer/runtime/window_operator.py",
        "            if caught_up(partition):\n", "            if partition:\n",
        f"{EXACT}::test_ticks_are_not_sent_ahead_of_a_backlog",
    ),
    Mutation(
        "the place within the transaction", "streamer/runtime/emitting.py",
        "await producer.commit(offsets)", "await producer.commit({})",
        f"{EXACT}::test_a_crash_at_any_moment_loses_no_final_and_repeats_none",
    ),
    Mutation(
        "batches polled before a rebalance are dropped", "streamer/runtime/runner.py",
        "            if generation == self._generation:\n                await self._process(",
        "            if generation:\n                await self._process(",
        f"{RUNNER}::test_records_polled_before_a_rebalance_are_read_again_by_whoever_owns_them_then",
    ),
)  # fmt: skip


def mutated(mutation: Mutation, folder: Path) -> Path:
    """A copy of the tree without one guarantee; what is not code is linked."""
    for name in CODE:
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in BESIDE:
        (folder / name).symlink_to(ROOT / name)
    file = folder / mutation.file
    source = file.read_text()
    assert source.count(mutation.old) == 1, f"{mutation.file} does not say this once: {mutation.old}"
    file.write_text(source.replace(mutation.old, mutation.new))
    return folder


@pytest.mark.kafka
@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda m: m.what.replace(" ", "-"))
def test_without_it_a_test_fails(mutation: Mutation, tmp_path: Path) -> None:
    folder = mutated(mutation, tmp_path)
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", mutation.test]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)  # noqa: S603 - our own
    assert done.returncode == 1, done.stdout[-2000:] + done.stderr[-2000:]
    assert "1 failed" in done.stdout, done.stdout[-2000:]
