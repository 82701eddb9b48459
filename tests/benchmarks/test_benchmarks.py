"""The benchmarks' arithmetic on cases with known answers, and their parts on small real input."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks import latency, machine
from benchmarks.latency import latencies
from benchmarks.live_pipeline import benchmark_settings
from benchmarks.p95 import __main__ as p95
from benchmarks.p95.load import Sent
from benchmarks.sessions.__main__ import changed_topology
from benchmarks.sessions.live_check import compare
from benchmarks.sessions.observed import (
    closed_windows,
    finals,
    fuser_of,
    observe,
    observe_cached,
    read_log,
    sensing_only,
)
from benchmarks.sessions.report import below_best_single, judge, table
from benchmarks.sessions.segments import Segment, find_sessions, predict, read_segments
from benchmarks.sessions.statistics import (
    Prediction,
    calibration,
    macro_f1,
    macro_f1_interval,
    paired_difference,
    risk_coverage,
)
from kernels.emotions import SEVEN
from operators.payloads import AffectEvent, ModalityReading, RankedList
from streamer.errors import ConfigurationError, MediaError
from streamer.payloads import WorkerReport, decode
from streamer.recordings.replay import session_events, simulate
from streamer.settings import Settings
from streamer.topology.reading import load_topology
from streamer.topology.topology import Topology

ROOT = Path(__file__).resolve().parents[2]

PREDICTIONS = st.lists(
    st.builds(
        Prediction,
        session=st.sampled_from("abc"),
        truth=st.sampled_from(SEVEN),
        predicted=st.sampled_from(SEVEN) | st.none(),
        confidence=st.floats(0, 1),
    ),
    min_size=1,
    max_size=40,
)


def a_final(end_ms: int, emotions: dict[str, float] | None, session: str = "s", **fields: object) -> AffectEvent:
    given = {
        "session_id": session, "event_time_ms": end_ms, "event_id": f"{session}:{end_ms}", "revision": 0, "final": True,
        "window_start_ms": end_ms - 2000, "window_end_ms": end_ms, "emotions": emotions, "abstained": emotions is None,
        "source_kafka_ms": end_ms, "emitted_at_ms": end_ms, **fields,
    }  # fmt: skip
    return AffectEvent(**given)  # type: ignore[arg-type]


def test_macro_f1_is_the_mean_over_the_classes_that_occur() -> None:
    predictions = [
        Prediction("a", "anger", "anger", 0.9),
        Prediction("a", "anger", "fear", 0.9),
        Prediction("a", "fear", "fear", 0.9),
    ]
    assert macro_f1(predictions, SEVEN) == pytest.approx((2 / 3 + 2 / 3) / 2)


def test_abstaining_counts_as_wrong_but_is_nobodys_false_alarm() -> None:
    predictions = [Prediction("a", "anger", "anger", 0.9), Prediction("a", "anger", None, 0.0)]
    assert macro_f1(predictions, SEVEN) == pytest.approx(2 / 3)


@given(PREDICTIONS)
def test_macro_f1_is_a_share_and_its_interval_is_the_same_each_time(predictions: list[Prediction]) -> None:
    once, again = (macro_f1_interval(predictions, SEVEN, draws=50) for _ in range(2))
    assert once == again
    assert 0 <= once.low <= once.high <= 1


def test_the_interval_of_many_alike_sessions_is_narrow_and_holds_the_value() -> None:
    rng = np.random.default_rng(1)
    predictions = [
        Prediction(f"s{s}", SEVEN[i], SEVEN[i] if rng.random() < 0.7 else SEVEN[(i + 1) % 7], 0.5)
        for s in range(60)
        for i in range(7)
    ]
    found = macro_f1_interval(predictions, SEVEN)
    assert found.low < found.value < found.high
    assert found.high - found.low < 0.15


def test_a_paired_difference_with_itself_is_nothing_and_with_a_worse_one_is_above_zero() -> None:
    good = [Prediction(f"s{i}", SEVEN[i % 7], SEVEN[i % 7], 0.9) for i in range(28)]
    bad = [Prediction(p.session, p.truth, "neutral", 0.9) for p in good]
    assert paired_difference(good, good, SEVEN).value == 0
    better = paired_difference(good, bad, SEVEN)
    assert better.low > 0
    assert better.above_zero == 1


def test_a_paired_difference_refuses_other_stretches() -> None:
    with pytest.raises(ValueError, match="same stretches"):
        paired_difference([Prediction("a", "fear", "fear", 1)], [Prediction("b", "fear", "fear", 1)], SEVEN)


def test_confidence_that_equals_accuracy_has_a_small_calibration_error() -> None:
    rng = np.random.default_rng(0)
    sure = rng.uniform(0.2, 1, 4000)
    predictions = [Prediction("a", "fear", "fear" if rng.random() < c else "anger", float(c)) for c in sure]
    honest = calibration(predictions)
    overconfident = calibration([Prediction(p.session, p.truth, p.predicted, 1.0) for p in predictions])
    assert honest.ece < 0.04
    assert honest.perfect_low <= honest.ece <= honest.perfect_high
    assert overconfident.ece == pytest.approx(1 - np.mean([p.correct for p in predictions]))


def test_risk_falls_with_coverage_where_the_surest_are_right() -> None:
    predictions = [Prediction("a", "fear", "fear", 0.9), Prediction("a", "fear", "anger", 0.1)]
    curve = risk_coverage(predictions)
    assert curve.risk_at[0.5] == 0
    assert curve.risk_at[1.0] == 0.5
    assert curve.aurc == pytest.approx(0.25)


@given(PREDICTIONS, st.randoms())
def test_risk_coverage_does_not_depend_on_the_order_of_the_file(predictions: list[Prediction], random: object) -> None:
    shuffled = list(predictions)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert risk_coverage(shuffled).aurc == pytest.approx(risk_coverage(predictions).aurc)


def test_a_segment_is_predicted_from_the_finals_inside_it_that_start_late_enough() -> None:
    segment = Segment("s", 10_000, 20_000, "fear", "agree", {})
    finals = [
        a_final(14_000, {"anger": 1.0}),  # starts 2 s after the segment
        a_final(14_500, {"fear": 0.6, "anger": 0.4}),
        a_final(20_000, {"fear": 0.8, "happiness": 0.1, "trust": 0.1}),
        a_final(20_500, {"anger": 1.0}),
        a_final(15_000, None),
    ]
    predicted = predict(segment, finals, 0)
    assert predicted.predicted == "fear"
    assert predicted.confidence == pytest.approx(0.7)


def test_trust_and_anticipation_count_as_happiness() -> None:
    finals = [a_final(9000, {"trust": 0.6, "fear": 0.4})]
    assert predict(Segment("s", 0, 9000, "happiness", "agree", {}), finals, 0).correct


def test_a_segment_whose_finals_all_abstain_is_abstained() -> None:
    predicted = predict(Segment("s", 0, 9000, "fear", "agree", {}), [a_final(9000, None)], 0)
    assert predicted.predicted is None
    assert not predicted.correct


def write_labels(folder: Path, emotion: str = "fear") -> None:
    folder.mkdir(parents=True)
    segment = {"start_ms": 0, "end_ms": 9000, "emotion": emotion, "kind": "agree", "modalities": {"face": None}}
    (folder / "labels.json").write_text(json.dumps({"segments": [segment]}), encoding="utf-8")


def test_labels_are_read_and_an_emotion_that_is_not_scored_is_named(tmp_path: Path) -> None:
    write_labels(tmp_path / "good")
    write_labels(tmp_path / "odd", "boredom")
    good, odd = find_sessions(tmp_path)
    assert read_segments(good) == [Segment("good", 0, 9000, "fear", "agree", {"face": None})]
    with pytest.raises(MediaError, match="boredom"):
        read_segments(odd)


def test_a_folder_without_labelled_sessions_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match=r"labels\.json"):
        find_sessions(tmp_path)


def test_the_table_has_a_row_for_each_kind_of_segment_that_occurs() -> None:
    segments = {"s": [Segment("s", 0, 9000, e, k, {}) for e in SEVEN for k in ("agree", "conflict")]}
    predictions = [Prediction("s", s.emotion, s.emotion, 0.9) for s in segments["s"]]
    result = judge(dict.fromkeys(("face", "voice", "text", "fused"), predictions), segments)
    assert list(result.kinds) == ["all", "agree", "conflict"]
    assert result.kinds["all"].fused_minus_best.value == 0
    assert "| conflict (7) | 1.000" in table(result)


def test_a_fused_estimate_that_may_be_below_the_best_single_modality_is_reported() -> None:
    names = [f"s{n}" for n in range(12)]
    segments = {n: [Segment(n, 0, 9000, e, "conflict", {}) for e in SEVEN] for n in names}
    right = [Prediction(s.session, s.emotion, s.emotion, 0.9) for n in names for s in segments[n]]
    worse = [Prediction(p.session, p.truth, "fear" if p.truth == "anger" else p.predicted, 0.9) for p in right]
    good = judge({"face": worse, "voice": worse, "text": worse, "fused": right}, segments, right)
    poor = judge({"face": right, "voice": worse, "text": worse, "fused": worse}, segments, worse)
    assert below_best_single(good) == []
    assert below_best_single(poor) == ["all", "conflict"]
    assert "all NO, conflict NO" in table(poor)
    assert good.of_finals.ece == pytest.approx(0.1)
    assert poor.of_finals.ece < good.of_finals.ece


def test_a_benchmark_runs_another_topology_by_its_changes_alone(tmp_path: Path) -> None:
    changes = ["operators.sense_voice.params.model=other_voice", "modalities.voice.reliability=0.85"]
    changed = load_topology(changed_topology(Path("topology.yaml"), changes, tmp_path))
    before = load_topology("topology.yaml")
    assert changed.operators["sense_voice"].params.model == "other_voice"  # type: ignore[attr-defined]
    assert [m.reliability for m in changed.modalities.values()] == [0.9, 0.85, 0.9, None]
    assert changed.operators["rank_items"] == before.operators["rank_items"]
    with pytest.raises(ConfigurationError, match="reliabilty"):
        load_topology(changed_topology(Path("topology.yaml"), ["modalities.voice.reliabilty=1"], tmp_path))
    for wrong in ("operators.sense_voice", "version.minor=2"):
        with pytest.raises(ConfigurationError, match="write it as"):
            changed_topology(Path("topology.yaml"), [wrong], tmp_path)


def seen(
    at_ms: int, face_ms: int, text_ms: int | None = None, final_closed_ms: int | None = None
) -> tuple[int, AffectEvent]:
    modalities = {"face": ModalityReading(state="present", newest_ms=face_ms)}
    if text_ms is not None:
        modalities["text"] = ModalityReading(state="present", newest_ms=text_ms)
    return at_ms, a_final(
        2000, {"fear": 1.0}, modalities=modalities, closed_at_ms=final_closed_ms, final=final_closed_ms is not None
    )


def test_a_frame_waits_for_the_first_event_that_has_seen_it_or_a_newer_one() -> None:
    got = latency.Received(affect=[seen(1050, 1000), seen(1290, 1200, text_ms=1200)])
    sent = {"s": Sent(frames=[1000, 1100, 1200, 1300], chats=[1200])}
    found = latencies(sent, got, from_ms=0)
    assert found["frame_to_affect_live"].count == 3
    assert found["frame_to_affect_live"].max == 190
    assert found["frame_to_affect_live"].missing == 1
    assert found["chat_to_affect_live"].p50 == 90


def test_a_final_that_is_repeated_counts_when_it_first_came_and_warm_up_does_not_count() -> None:
    got = latency.Received(affect=[seen(5010, 1000, final_closed_ms=5000), seen(9000, 1000, final_closed_ms=5000)])
    assert latencies({}, got, from_ms=0)["closing_to_final"].max == 10
    assert latencies({}, got, from_ms=6000)["closing_to_final"].count == 0


def test_candidates_are_answered_by_their_first_list() -> None:
    lists = [
        RankedList(
            session_id="s", event_time_ms=0, request_id="r", user_id="u", revision=n, cause="request",
            policy="affect@1", emitted_at_ms=0, items=[],
        )
        for n in range(2)
    ]  # fmt: skip
    got = latency.Received(ranked=[(130, lists[0]), (700, lists[1])])
    found = latencies({"s": Sent(requests={"r": 100, "unanswered": 100})}, got, from_ms=0)
    assert found["candidates_to_ranked"].max == 30
    assert found["candidates_to_ranked"].missing == 1


def test_stages_are_pooled_over_the_seconds_by_their_counts() -> None:
    def report(at_ms: int, count: float, p50: float) -> WorkerReport:
        summary = {"count": count, "p50": p50, "p95": p50, "p99": p50, "max": p50}
        return WorkerReport(
            event_time_ms=at_ms, worker="w", operator="sense_face", partitions=[], lag=0, counts={"read": 2, "busy": 1},
            latency_ms={"detect": summary}, models={}, backend="", reasons_against={},
        )  # fmt: skip

    reports = [report(1, 10, 100.0), report(2000, 1, 4.0), report(3000, 3, 8.0)]
    assert latency.stages(reports, 1000)["sense_face"]["detect"] == {"count": 4, "p50": 7.0, "p95": 7.0, "max": 8.0}
    assert latency.counts(reports, 1000) == {"sense_face": {"busy": 2, "read": 4}}


def test_live_and_simulated_finals_are_compared_window_by_window() -> None:
    live = {2000: a_final(2000, {"fear": 0.7, "anger": 0.3}), 2500: a_final(2500, None), 3000: a_final(3000, None)}
    simulated = {2000: a_final(2000, {"fear": 0.6, "anger": 0.4}), 2500: a_final(2500, {"fear": 1.0})}
    found = compare("s", live, simulated)
    assert (found.in_both, found.same_top, found.within, found.abstained_in_one) == (2, 1, 0, 1)
    assert found.largest_difference == pytest.approx(0.1)


def test_the_machine_is_described_with_its_versions_and_models() -> None:
    facts = machine.describe()
    assert facts["cores"] == len(os.sched_getaffinity(0))
    assert any("openvino" in line for line in machine.lines(facts))


@pytest.fixture
def settings(monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setenv("STREAMER_CONTEXT", "research")
    monkeypatch.setenv("STREAMER_ACCEPT_LICENCES", "unsettled")
    return benchmark_settings().model_copy(update={"queue": "all"})


@pytest.fixture
def text_only() -> Topology:
    whole = load_topology(ROOT / "topology.yaml")
    kept = {n: o for n, o in whole.operators.items() if n in ("sense_text", "fuse_affect")}
    return replace(whole, operators=kept)


@pytest.fixture
def chat(tmp_path: Path) -> Path:
    folder = tmp_path / "session"
    folder.mkdir()
    lines = [(400, "I am so happy today, thank you!"), (4100, "this is awful, I hate it"), (7900, "what?!")]
    text = "".join(json.dumps({"event_time_ms": at, "text": said}) + "\n" for at, said in lines)
    (folder / "chat.jsonl").write_text(text, encoding="utf-8")
    return folder


async def test_reading_a_log_again_gives_the_finals_of_the_pipeline(
    chat: Path, text_only: Topology, settings: Settings
) -> None:
    fuser, spec = fuser_of(text_only, settings)
    broker = await simulate({"session": session_events(chat, ["text"])}, text_only, settings)
    theirs = [decode(m.value, AffectEvent) for m in broker.messages("affect_events")]
    log = await observe(chat, text_only, settings)
    windows = closed_windows(log, text_only, spec, fuser)
    ours = await finals(windows, fuser)
    assert len(theirs) >= 9
    assert [msgspec.structs.replace(e, emitted_at_ms=0) for e in ours] == [
        msgspec.structs.replace(e, emitted_at_ms=0) for e in theirs
    ]
    assert all(e.abstained for e in await finals(windows, fuser, "face"))
    assert any(not e.abstained for e in await finals(windows, fuser, "text"))


def test_a_log_is_computed_once_and_cached_under_a_hash_of_what_it_depends_on(
    chat: Path, text_only: Topology, settings: Settings, tmp_path: Path
) -> None:
    cache = tmp_path / "cache"
    path = observe_cached(chat, text_only, settings, cache)
    written = path.stat().st_mtime_ns
    assert any(entry.value is not None for entry in read_log(path))
    assert observe_cached(chat, text_only, settings, cache) == path
    assert path.stat().st_mtime_ns == written
    (chat / "chat.jsonl").write_text('{"event_time_ms": 400, "text": "something else"}\n', encoding="utf-8")
    assert observe_cached(chat, text_only, settings, cache) != path


def test_what_a_log_depends_on_has_one_name_in_every_process_and_checkout(chat: Path, tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from benchmarks.sessions.observed import fingerprint; "
        "from streamer.topology.reading import load_topology; "
        "print(fingerprint(Path(sys.argv[1]), load_topology(Path('topology.yaml'))))"
    )
    elsewhere = tmp_path / "elsewhere"
    left_out = shutil.ignore_patterns(".*", "build", "tests")
    shutil.copytree(ROOT, elsewhere, ignore=left_out)
    names = set()
    for seed, where in (("0", ROOT), ("1", ROOT), ("2", ROOT), ("3", elsewhere)):
        done = subprocess.run(  # noqa: S603 - our own code
            [sys.executable, "-c", code, str(chat)], cwd=where, env=os.environ | {"PYTHONHASHSEED": seed},
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        names.add(done.stdout)
    assert len(names) == 1


def test_the_ranker_is_left_out_of_quality_measurements() -> None:
    assert "rank_items" not in sensing_only(load_topology(ROOT / "topology.yaml")).operators


def test_the_command_replays_sessions_in_processes_of_their_own(chat: Path, tmp_path: Path) -> None:
    segment = {"start_ms": 0, "end_ms": 4000, "emotion": "happiness", "kind": "missing", "modalities": {}}
    (chat / "labels.json").write_text(json.dumps({"segments": [segment]}), encoding="utf-8")
    out = tmp_path / "figures.json"
    command = [sys.executable, "-m", "benchmarks.sessions", str(tmp_path), "--no-live", "--json", str(out)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)  # noqa: S603 - our own code
    assert done.returncode == 0, done.stderr
    assert json.loads(out.read_text(encoding="utf-8"))["sessions"] == 1


@pytest.mark.kafka
@pytest.mark.timeout(180)
@pytest.mark.usefixtures("settings")
def test_latency_is_measured_on_the_real_path(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "p95.json"
    topology = str(ROOT / "topology.yaml")
    assert p95.main(["--seconds", "8", "--sessions", "1", "--topology", topology, "--json", str(out)]) == 0
    (run,) = json.loads(out.read_text(encoding="utf-8"))["runs"]
    assert run["latency_ms"]["frame_to_affect_live"]["count"] >= 20
    assert all(run["latency_ms"][name]["count"] for name in ("closing_to_final", "candidates_to_ranked"))
    assert run["stages_ms"]["sense_face"]["detect"]["p50"] > 0
    assert "frame event time -> affect_live" in capsys.readouterr().out
