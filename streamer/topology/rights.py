"""The least rights that a topology's operators need of a Kafka with ACLs; docs/security.md is made of them."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from streamer.broker import Right
from streamer.topology.topology import OperatorSpec, Topology

REPORTED = ("worker_reports", "late_records", "dead_letters", "audit")
"""What the runtime itself writes, where the topology has it."""


def needed_rights(topology: Topology, only: Collection[str] = ()) -> list[Right]:
    """The rights that running some operators needs, all of them where `only` is empty; each once, by resource and name.

    Creating the topics at the first start needs Create on each besides.
    """
    specs = [spec for name, spec in topology.operators.items() if not only or name in only]
    found = {right for spec in specs for right in _of_operator(topology, spec)}
    found |= {Right("topic", name, "DescribeConfigs") for name in topology.topics}
    found |= {Right("topic", name, "Write") for name in REPORTED if name in topology.topics}
    return sorted(found)


def forgetting_rights(topology: Topology) -> list[Right]:
    """The rights that `streamer forget` needs: to look everywhere, and to delete what is kept by key."""
    changelogs = [changelog(topology, spec) for spec in topology.operators.values() if spec.host == "faust"]
    names = [*topology.topics, *changelogs]
    tables = [topic.name for topic in topology.topics.values() if topic.compact and topic.keyed_by_session]
    written = [*tables, *changelogs, *(name for name in ("audit",) if name in topology.topics)]
    found = {Right("topic", name, "Read") for name in names} | {Right("topic", name, "Write") for name in written}
    return sorted(found | {Right("topic", name, "DescribeConfigs") for name in topology.topics})


def changelog(topology: Topology, spec: OperatorSpec) -> str:
    """The topic in which Faust keeps the state of an operator."""
    return f"{topology.app}-{spec.name}-state-changelog"


def _of_operator(topology: Topology, spec: OperatorSpec) -> Iterator[Right]:
    for name in (*spec.reads, *spec.tables):
        yield Right("topic", name, "Read")
    for name in spec.outputs:
        yield Right("topic", name, "Write")
    if spec.window is not None:  # its ticks
        for name in spec.reads:
            yield Right("topic", name, "Write")
    if spec.host == "faust":
        yield Right("group", f"{topology.app}-{spec.name}", "Read")
        yield from (
            Right("topic", changelog(topology, spec), "Read"),
            Right("topic", changelog(topology, spec), "Write"),
        )
        yield Right("topic", changelog(topology, spec), "DescribeConfigs")
    else:
        yield Right("group", f"{topology.app}.{spec.name}", "Read")
    if spec.delivery == "exactly_once":
        for partition in range(topology.partitions):
            yield Right("transactional_id", f"{topology.app}.{spec.name}.{partition}", "Write")
