"""`python -m docs.draw_security` draws the tables of docs/security.md anew: the settings of security, the rights."""

from __future__ import annotations

import re
from collections import defaultdict
from pathlib import Path

from streamer.cli.arguments import default_topology
from streamer.settings import PREFIX, Settings
from streamer.topology.reading import load_topology
from streamer.topology.rights import needed_rights
from streamer.topology.topology import Topology

PAGE = Path(__file__).with_name("security.md")
_SECURITY = ("brokers", "security_protocol", "sasl_", "ssl_")


def settings_table() -> str:
    """Every setting of security, with what it says."""
    rows = ["| variable | what it says |", "|---|---|"]
    for name, field in Settings.model_fields.items():
        if name.startswith(_SECURITY):
            rows.append(f"| `{PREFIX}{name.upper()}` | {field.description} |")
    return "\n".join(rows)


def rights_table(topology: Topology) -> str:
    """The rights that running all operators needs, by what they are on; a transactional id stands for its prefix."""
    by_name: dict[tuple[str, str], set[str]] = defaultdict(set)
    for right in needed_rights(topology):
        name = re.sub(r"\.\d+$", ".*", right.name) if right.resource == "transactional_id" else right.name
        by_name[right.resource.replace("_", " "), name].add(right.operation)
    by_rights: dict[tuple[str, str], list[str]] = defaultdict(list)
    for (resource, name), operations in sorted(by_name.items()):
        by_rights[resource, ", ".join(sorted(operations))].append(f"`{name}`")
    rows = ["| on | names | operations |", "|---|---|---|"]
    rows += [f"| {kind} | {', '.join(names)} | {operations} |" for (kind, operations), names in by_rights.items()]
    return "\n".join(rows)


def page_with_tables(page: str) -> str:
    """The page with both tables drawn anew between their marks."""
    drawn = {"settings": settings_table(), "rights": rights_table(load_topology(default_topology()))}
    for mark, table in drawn.items():
        begin, end = f"<!-- {mark}: python -m docs.draw_security -->", f"<!-- end of {mark} -->"
        before, _, rest = page.partition(begin)
        page = f"{before}{begin}\n{table}\n{end}{rest.partition(end)[2]}"
    return page


if __name__ == "__main__":
    PAGE.write_text(page_with_tables(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
