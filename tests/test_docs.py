"""Documents that are made from the code, or that name it, say what the code says now."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from docs import draw_event_time

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("demo/*.md"), *ROOT.glob("models/*/card.md")])
_FOLDERS = "streamer|operators|kernels|models|benchmarks|demo|docs|tests"


def test_the_picture_of_event_time_is_drawn_from_windows_as_they_close_today() -> None:
    drawn = draw_event_time.OUT.read_text(encoding="utf-8")
    assert drawn == draw_event_time.picture(), "make it anew: python -m docs.draw_event_time"


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_what_a_page_links_to_and_names_is_there(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    links = [target for target in re.findall(r"\]\(([^)#\s]+)\)", text) if "://" not in target]
    assert [target for target in links if not (page.parent / target).exists()] == []
    files = set(re.findall(rf"`((?:{_FOLDERS})/[\w/.-]+\.\w+)(?:::\w+)?`", text))
    assert [name for name in sorted(files) if not (ROOT / name).exists()] == []
    run = set(re.findall(rf"python -m ((?:{_FOLDERS})(?:\.\w+)+)", text)) - {"models.NAME.evaluate"}
    found = {name: ROOT / name.replace(".", "/") for name in run}
    runs = {name for name, path in found.items() if path.with_suffix(".py").exists() or (path / "__main__.py").exists()}
    assert run - runs == set()


def names_in(file: str) -> set[str]:
    """The classes, methods (`Class.method`), functions and constants that a file defines."""
    found: set[str] = set()
    for node in ast.parse((ROOT / file).read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ClassDef):
            methods = [n.name for n in node.body if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)]
            found |= {node.name, *(f"{node.name}.{method}" for method in methods)}
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            found.add(node.name)
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            found |= {target.id for target in targets if isinstance(target, ast.Name)}
    return found


def test_the_way_of_a_frame_names_functions_where_they_are() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    way = page.split("## The way of a frame")[1].split("## Where do I change")[0]
    rows = [row.split("|")[2:4] for row in way.splitlines() if row.startswith("| ") and ".py`" in row]
    assert len(rows) > 12
    for says, where in rows:
        files = re.findall(r"`([\w/]+\.py)`", where)
        named = [name for name in re.findall(r"`([\w.]+)`", says) if "." in name or name.islower()]
        defined = set().union(*(names_in(file) for file in files))
        assert [name for name in named if name not in defined and name not in _TOPICS] == [], says


_TOPICS = {"observations", "affect_live", "affect_events", "video_frames"}


def test_every_proof_is_a_test_that_exists_and_there_are_ten() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    rows = [row for row in page.split("## Where do I change")[1].splitlines() if row.startswith("| **")]
    assert len(rows) == 10
    for row in rows:
        proofs = re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", row.split("|")[3])
        assert proofs, row
        for file, test in proofs:
            assert not test or test in names_in(file), test
