"""topology.yaml: what is right loads, and what is wrong is refused whole, each problem with its place."""

from __future__ import annotations

import contextlib
import dataclasses
import resource
import subprocess
import sys
import tempfile
import typing
from pathlib import Path

import msgspec
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from operators.payloads import AudioChunk, VideoFrame
from streamer.__main__ import main
from streamer.errors import ConfigurationError
from streamer.event_time import Duration
from streamer.topology.reading import load_topology
from streamer.topology.topology import Topology
from tests.tiny_operators import count_letters
from tests.tiny_operators.payloads import Word

SHIPPED = Path(__file__).parents[3] / "topology.yaml"
PACKAGE = "tests.tiny_operators"

TINY = """\
version: 2
app: tiny
partitions: 2
topics:
  words:         {payload: Word, external: in, retention: 60s}
  settings:      {payload: Setting, external: in, compact: true, key: name}
  counts:        {payload: Count, retention: 10m}
  totals:        {payload: Total, external: out, retention: 24h}
  totals_live:   {payload: Total, external: out}
  late_records:  {payload: LateRecord, external: out, key: key}
  dead_letters:  {payload: DeadLetter, external: out, key: key}
modalities:
  keys: {topic: words, half_life: 6s, evidence: false, sparse: true}
operators:
  count_letters:
    reads: [words]
    tables: [settings]
    writes: counts
    batch: {max: 8, wait: 4ms}
    queue: {policy: latest, max_age: 500ms}
    params: {language: german, pause: 1s, width: 60px, weights: {a: 1, b: 0.5}}
  sum_counts:
    reads: [counts]
    writes: totals
    window: {size: 2s, hop: 500ms, provisional: totals_live}
    delivery: at_least_once
    on_failure: {retries: 1, then: stop}
"""


def load(text: str, folder: Path) -> Topology:
    path = folder / "topology.yaml"
    path.write_text(text)
    return load_topology(path, package=PACKAGE)


def problems_of(text: str, folder: Path) -> dict[str, str]:
    with pytest.raises(ConfigurationError) as refused:
        load(text, folder)
    found: dict[str, str] = {}
    for problem in refused.value.problems:
        found[problem.path] = f"{found.get(problem.path, '')} {problem.message}".strip()
    return found


def test_a_right_file_becomes_typed_values(tmp_path: Path) -> None:
    topology = load(TINY, tmp_path)
    assert (topology.version, topology.app, topology.partitions) == (2, "tiny", 2)
    assert topology.topics["words"].type is Word
    assert topology.topics["words"].keyed_by_session
    assert not topology.topics["settings"].keyed_by_session
    counter = topology.operators["count_letters"]
    assert counter.params == count_letters.Params(
        language="german",
        pause=Duration(1000),
        width=count_letters.Pixels(60),
        weights={"a": 1.0, "b": 0.5},
    )
    assert (counter.batch.max, counter.batch.wait, counter.queue.max_age) == (8, 4, 500)
    assert counter.found.build is count_letters.CountLetters
    assert counter.outputs == ("counts",)
    summer = topology.operators["sum_counts"]
    assert summer.outputs == ("totals", "totals_live")
    assert topology.half_life_ms() == {"keys": 6000}
    assert topology.modality_of("words") == "keys"
    assert topology.modality_of("counts") is None
    assert summer.window is not None
    assert summer.window.rule.sparse == {"keys"}
    assert (summer.on_failure.retries, summer.on_failure.then) == (1, "stop")
    assert topology.writers("counts") == ["count_letters"]


def test_what_is_left_out_has_the_defaults_of_the_design(tmp_path: Path) -> None:
    window = load(TINY.replace(", sparse: true", ""), tmp_path).operators["sum_counts"].window
    assert window is not None
    rule = window.rule
    assert (rule.lateness, rule.idle_after, rule.max_open, rule.sparse) == (150, 1000, 5000, frozenset())
    assert (window.max_skew, window.max_delay, window.horizon) == (5000, 15_000, 60_000)


def test_a_topology_can_not_be_changed(tmp_path: Path) -> None:
    topology = load(TINY, tmp_path)
    with pytest.raises(dataclasses.FrozenInstanceError):
        topology.partitions = 3  # type: ignore[misc]
    with pytest.raises(TypeError):
        topology.topics["words"] = topology.topics["counts"]  # type: ignore[index]
    with pytest.raises(AttributeError):
        topology.operators["count_letters"].batch.max = 1  # type: ignore[misc]


def test_the_broker_learns_partitions_retention_segments_and_compaction(tmp_path: Path) -> None:
    specs = {spec.name: spec for spec in load(TINY, tmp_path).topic_specs()}
    assert {spec.partitions for spec in specs.values()} == {2}
    assert (specs["words"].retention_ms, specs["words"].segment_ms) == (60_000, 10_000)
    assert (specs["counts"].retention_ms, specs["counts"].segment_ms) == (600_000, 100_000)
    assert (specs["settings"].compact, specs["settings"].retention_ms) == (True, None)
    assert specs["totals_live"].retention_ms is None


MISTAKES = yaml.safe_load((Path(__file__).parent / "topology_mistakes.yaml").read_text())


@pytest.mark.parametrize("mistake", MISTAKES, ids=[m["what"] for m in MISTAKES])
def test_a_mistake_is_named_with_its_place(mistake: dict[str, str], tmp_path: Path) -> None:
    assert mistake["old"] in TINY, "the mistake must change the file"
    found = problems_of(TINY.replace(mistake["old"], mistake["new"], 1), tmp_path)
    assert mistake["says"] in found.get(mistake["path"], ""), found


TEN_MISTAKES = """\
version: 3
app: Tiny
partitions: 2
topics:
  words:    {payload: Wrod, external: in, retention: 60}
  counts:   {payload: Count, retention: 10m, partitions: 4}
  letters:  {payload: Count}
  dead_letters: {payload: DeadLetter, external: out, key: key}
modalities:
  keys: {topic: words, half_life: 6s, evidence: false, sparse: true}
operators:
  count_letters:
    reads: [word]
    writes: counts
    writes: counts
    bach: {max: 8}
    params: {language: no}
"""


def test_ten_mistakes_are_ten_problems_in_the_order_of_the_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError) as refused:
        load(TEN_MISTAKES, tmp_path)
    assert [p.path for p in refused.value.problems] == [
        "version",
        "app",
        "topics.words.payload",
        "topics.words.retention",
        "topics.counts.partitions",
        "topics.letters",
        "operators.count_letters.reads[0]",
        "operators.count_letters.writes",
        "operators.count_letters.bach",
        "operators.count_letters.params.language",
    ]
    assert "10 problems" in str(refused.value)


def test_a_circle_of_operators_is_shown(tmp_path: Path) -> None:
    circle = """\
  echo_totals:
    reads: [totals]
    writes: counts
"""
    found = problems_of(TINY + circle, tmp_path)
    assert "a cycle: sum_counts -> echo_totals -> sum_counts" in found["operators.sum_counts"]


def test_two_windowed_writers_of_a_topic_are_refused_but_many_others_may_share_one(tmp_path: Path) -> None:
    shared = """\
  echo_totals:
    reads: [words]
    writes: %s
"""
    assert load(TINY + shared % "counts", tmp_path).writers("counts") == ["count_letters", "echo_totals"]
    found = problems_of(TINY + shared % "totals", tmp_path)
    assert "written by echo_totals too" in found["operators.sum_counts.writes"]


BAD_FILES = {
    "empty": (b"", "is empty"),
    "only a comment": (b"# nothing\n", "is empty"),
    "binary": (bytes(range(256)), "not UTF-8"),
    "control characters": (b"version: \x00", "not YAML"),
    "not YAML": (b"version: [1, 2\napp: x: y", "not YAML"),
    "a list": (b"- version: 2\n", "must be a mapping, not a list"),
    "a word": (b"hello\n", "must be a mapping, not 'hello'"),
    "two documents": (b"version: 2\n---\nversion: 2\n", "not YAML"),
    "an alias": (b"version: &v 1\napp: *v\n", "aliases are not used here"),
    "a Python object": (b"version: !!python/object:os.system {}\n", "is missing"),
    "a tag": (b"version: !thing 1\napp: tiny\n", "can't be read as !thing"),
    "nested without end": (b"a: " + b"[" * 5000 + b"]" * 5000, "nested too deeply"),
    "huge": (b"#" * (1024 * 1024 + 1), "is larger than"),
    "keys that aren't names": (b"? [a, b]\n: 1\n", "a key must be a name"),
    "all sections empty": (b"version: 2\napp: tiny\npartitions: 1\ntopics:\noperators:\n", "not empty"),
}


@pytest.mark.parametrize(("content", "said"), BAD_FILES.values(), ids=BAD_FILES.keys())
def test_a_file_that_is_no_topology_says_so(content: bytes, said: str, tmp_path: Path) -> None:
    path = tmp_path / "topology.yaml"
    path.write_bytes(content)
    with pytest.raises(ConfigurationError, match="topology.yaml") as refused:
        load_topology(path, package=PACKAGE)
    assert said in str(refused.value)


def test_a_missing_file_and_a_folder_say_so(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="does not exist; name another one with --topology"):
        load_topology(tmp_path / "nowhere.yaml")
    with pytest.raises(ConfigurationError, match="can't be read"):
        load_topology(tmp_path)


@settings(max_examples=50, deadline=None)
@given(st.data())
def test_whatever_stands_in_a_file_it_loads_or_is_refused_as_a_configuration(data: st.DataObject) -> None:
    lines = TINY.splitlines()
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(lines) - 1))
        junk = data.draw(
            st.sampled_from(["", "  x:", "- y", "null", "  reads: {a: 1}", "params: 3", "window: []", "1: 2"])
        )
        if data.draw(st.booleans()):
            lines[at] = junk
        else:
            place = data.draw(st.integers(0, len(lines[at])))
            lines[at] = lines[at][:place] + junk + lines[at][place:]
    with tempfile.TemporaryDirectory() as folder, contextlib.suppress(ConfigurationError):
        load("\n".join(lines), Path(folder))


def test_the_shipped_topology_is_right_and_ranks_by_nothing_until_it_is_told_to() -> None:
    topology = load_topology(SHIPPED)
    senses = ["sense_face", "sense_voice", "sense_text", "sense_behaviour"]
    assert list(topology.operators) == [*senses, "fuse_affect", "rank_items"]
    assert msgspec.structs.asdict(topology.operators["rank_items"].params)["goal"] == "off"
    media = [t for t in topology.topics.values() if t.type in (VideoFrame, AudioChunk)]
    assert [(t.name, t.retention_ms, t.spec(4).segment_ms) for t in media] == [
        ("video_frames", 60_000, 10_000),
        ("audio_chunks", 60_000, 10_000),
    ]


def test_shipped_operators_say_which_payloads_they_take() -> None:
    for spec in load_topology(SHIPPED).operators.values():
        if spec.window is None:
            hints = typing.get_type_hints(spec.found.build.process)  # type: ignore[attr-defined]
            assert "Any" not in repr(hints["batch"]), f"{spec.name}.process takes Record[Any]: nothing can be checked"


def test_check_takes_less_than_a_second_of_the_processor() -> None:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [sys.executable, "-m", "streamer", "check"]
    done = subprocess.run(command, cwd=SHIPPED.parent, capture_output=True, text=True, check=False)  # noqa: S603 - our own
    assert done.returncode == 0, done.stderr
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 1


def test_the_command_line_refuses_with_exit_code_78_and_without_a_traceback(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "topology.yaml"
    path.write_text(TEN_MISTAKES)
    assert main(["check", "--topology", str(path)]) == 78
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: ")
    assert "Traceback" not in err


def test_wrong_usage_ends_with_exit_code_64(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["chekc"])
    assert stopped.value.code == 64
    assert "error: argument COMMAND" in capsys.readouterr().err
