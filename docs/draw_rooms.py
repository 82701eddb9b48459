"""`python -m docs.draw_rooms` draws in docs/architecture.md which room of `streamer` imports which, as the code is.

A test compares the picture with the code, and checks that every import points to a room further up.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

CHECKOUT = Path(__file__).parents[1]
PAGE = CHECKOUT / "docs" / "architecture.md"
CONTRACTS = "contracts"
ROOMS = (CONTRACTS, "windowing", "topology", "brokers", "runtime", "recordings", "compliance", "cli")
"""In import order: a room may import those before it. The contracts are the modules directly in `streamer`."""
_START, _END = "<!-- rooms: python -m docs.draw_rooms -->", "<!-- end of rooms -->"


def modules(*packages: str) -> dict[str, Path]:
    """Every module of top-level packages, by its dotted name."""
    files = (path for package in packages for path in sorted((CHECKOUT / package).rglob("*.py")))
    named = ((".".join(path.relative_to(CHECKOUT).with_suffix("").parts), path) for path in files)
    return {name.removesuffix(".__init__"): path for name, path in named}


def imported(path: Path) -> Iterator[str]:
    """What a file imports, inside functions too; `from a import b` gives `a` and `a.b`."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def room_of(module: str) -> str | None:
    """The room that a module of `streamer` is in; None for `streamer.__main__`, the door, and for other packages."""
    package, _, rest = module.partition(".")
    if package != "streamer" or rest in ("", "__main__"):
        return None
    first = rest.partition(".")[0]
    return first if first in ROOMS else CONTRACTS


def room_imports() -> dict[str, set[str]]:
    """Each room to the other rooms that its files import."""
    found: dict[str, set[str]] = {room: set() for room in ROOMS}
    for module, path in modules("streamer").items():
        if room := room_of(module):
            found[room] |= {other for name in imported(path) if (other := room_of(name)) and other != room}
    return found


def picture() -> str:
    """The rooms as a Mermaid flowchart; an arrow that follows from others is left out."""
    edges = room_imports()
    lines = ["```mermaid", "flowchart LR"]
    for room in ROOMS:
        beyond = {far for near in edges[room] for far in _reached(near, edges)}
        lines += [f"  {room} --> {near}" for near in ROOMS if near in edges[room] - beyond]
    return "\n".join([*lines, "```"])


def page_with_picture(page: str) -> str:
    """The text of docs/architecture.md with the picture as the code is now."""
    return re.sub(f"(?s){_START}.*?{_END}", lambda _: f"{_START}\n{picture()}\n{_END}", page)


def _reached(room: str, edges: dict[str, set[str]]) -> set[str]:
    return edges[room] | {far for near in edges[room] for far in _reached(near, edges)}


if __name__ == "__main__":
    PAGE.write_text(page_with_picture(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
    sys.stdout.write(f"{PAGE.relative_to(CHECKOUT)}\n")
