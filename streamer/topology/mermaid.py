"""A topology's picture as a Mermaid flowchart. README.md shows it; a test compares the two."""

from __future__ import annotations

from collections.abc import Iterator

from streamer.topology.topology import Topology

_STYLES = {
    "step": "stroke-width:3px",
    "input": "stroke-dasharray:4 3",
    "output": "stroke-width:2px,font-weight:bold",
}


def mermaid(topology: Topology) -> str:
    """A topology to a flowchart: topics are cylinders, operators boxes, tables join by dotted lines.

    The runtime's own topics (written by no operator) are left out: every operator writes them.
    """
    return "\n".join(["flowchart LR", *_nodes(topology), *_edges(topology), *_classes(topology)]) + "\n"


def _connected(topology: Topology) -> list[str]:
    used = {t for s in topology.operators.values() for t in (*s.reads, *s.tables, *s.outputs)}
    return [name for name in topology.topics if name in used]


def _nodes(topology: Topology) -> Iterator[str]:
    for name in _connected(topology):
        yield f"  {name}[({name})]"
    for name in topology.operators:
        yield f"  {name}[{name}]"


def _edges(topology: Topology) -> Iterator[str]:
    for spec in topology.operators.values():
        yield from (f"  {topic} --> {spec.name}" for topic in spec.reads)
        yield from (f"  {table} -.-> {spec.name}" for table in spec.tables)
        finals, *provisionals = spec.outputs
        yield f"  {spec.name} -->|final| {finals}" if provisionals else f"  {spec.name} --> {finals}"
        yield from (f"  {spec.name} -->|provisional| {topic}" for topic in provisionals)


def _classes(topology: Topology) -> Iterator[str]:
    connected = [topology.topics[name] for name in _connected(topology)]
    inputs = [t.name for t in connected if t.external == "in"]
    outputs = [t.name for t in connected if t.external == "out"]
    groups = {"step": list(topology.operators), "input": inputs, "output": outputs}
    for group, style in _STYLES.items():
        yield f"  classDef {group} {style}"
        if groups[group]:
            yield f"  class {','.join(groups[group])} {group}"
