"""The demo: a story that any platform could publish, views of real events, and endings that say what happened."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from pathlib import Path

import cv2
import msgspec
import numpy as np
import pytest
from rich.console import Console

from demo import story
from demo.__main__ import main
from demo.camera import Capture, Recorder, agree
from demo.catalogue.items import read_catalogue, read_titles
from demo.child import Operators, OperatorsError
from demo.portrait import POSES, Portrait
from demo.sources import Source, media_source
from demo.view.board import Board, likeliest
from demo.view.lines import Lines
from demo.view.screen import BANNER, Frame, render
from demo.view.summary import summary
from demo.view.views import LineView, ScreenView, can_redraw, choose_view
from kernels.calibration import softmax
from kernels.engines import load
from kernels.face.crop import crop
from kernels.face.detection import CascadeDetector, FaceFinder
from operators.payloads import AffectEvent, CandidateList, Consent, RankedList
from operators.rank_items import Params as RankParams
from streamer.errors import MediaError, RefusedUseError
from streamer.payloads import decode
from streamer.recordings.events import Event
from streamer.recordings.replay import message
from streamer.recordings.session_folder import read_session
from streamer.topology.reading import load_topology
from streamer.topology.topology import Topology

CHECKOUT = Path(__file__).parents[2]
MODALITIES = ("face", "voice", "text")
RECORDED = Path(__file__).parent / "recorded"
FOOTER = "Ctrl-C ends"


@pytest.fixture(scope="module")
def topology() -> Topology:
    return load_topology(CHECKOUT / "topology.yaml")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    composed = tmp_path_factory.mktemp("demo") / "story"
    story.compose(composed)
    return composed


@pytest.fixture(scope="module")
def portrait() -> Portrait:
    return Portrait()


@pytest.fixture
def board() -> Board:
    """A board that has read one whole run of the demo, as it was recorded from Kafka."""
    finals = _recorded("affect_events", AffectEvent)
    start_ms = finals[0].window_end_ms - story.GRANTED_MS
    board = Board(read_titles(), start_ms, MODALITIES)
    published = [(e.at_ms, e) for e in _consents_and_chat()]
    received = [(p.emitted_at_ms - start_ms, p) for p in (*finals, *_recorded("ranked_items", RankedList))]
    for at_ms, what in sorted([*published, *received], key=lambda pair: pair[0]):
        if isinstance(what, Event):
            board.published(what)
        else:
            board.received(what, start_ms + at_ms)
    return board


def _recorded(topic: str, payload: type[msgspec.Struct]) -> list:  # type: ignore[type-arg]  # of that payload
    lines = (RECORDED / f"{topic}.jsonl").read_text(encoding="utf-8").splitlines()
    return [msgspec.json.decode(line, type=payload) for line in lines]


def _consents_and_chat() -> Iterator[Event]:
    for topic, lines in (("consents", story.consents()), ("chat_messages", story.chat())):
        for line in lines:
            fields = dict(line)
            yield Event(fields.pop("event_time_ms"), topic, fields)


def test_every_record_of_the_story_keeps_the_wire_contract(folder: Path, topology: Topology) -> None:
    counts: dict[str, int] = {}
    for event in read_session(folder):
        sent = message(event, "demo", 1_700_000_000_000, topology)
        assert decode(sent.value, topology.topics[sent.topic].type, dict(sent.headers)["schema"].decode())
        counts[sent.topic] = counts.get(sent.topic, 0) + 1
    assert counts["video_frames"] == story.LENGTH_MS * story.FRAMES_PER_S // 1000
    assert counts["audio_chunks"] == story.LENGTH_MS // 50
    assert (counts["chat_messages"], counts["consents"], counts["candidates"]) == (len(story.CHAT), 2, 4)


def test_the_story_is_the_same_each_time() -> None:
    first, second = (list(itertools.islice(story.pictures(), 18)) for _ in range(2))
    assert all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))
    assert np.array_equal(story.soundtrack(), story.soundtrack())


def test_nothing_is_consented_before_the_disclosure_and_only_the_voice_is_withdrawn(
    folder: Path, topology: Topology
) -> None:
    events = [e for e in read_session(folder) if e.topic == "consents"]
    given, withdrawn = (decode(message(e, "demo", 0, topology).value, Consent) for e in events)
    assert given.disclosed_at_ms == given.event_time_ms == story.GRANTED_MS
    everything = ["face", "voice", "text", "behaviour"]
    assert (given.modalities, given.minor, given.affect_ranking) == (everything, False, True)
    assert (withdrawn.event_time_ms, withdrawn.modalities) == (story.WITHDRAWN_MS, ["face", "text", "behaviour"])


def test_the_platform_asks_for_the_same_items_each_time_and_all_are_in_the_catalogue(
    folder: Path, topology: Topology
) -> None:
    known = {item.item_id: item for item in read_catalogue(0)}
    asked = [e for e in read_session(folder) if e.topic == "candidates"]
    lists = [decode(message(e, "demo", 0, topology).value, CandidateList) for e in asked]
    assert len({request.request_id for request in lists}) == len(lists)
    for request in lists:
        assert request.items == lists[0].items
        assert all(item.item_id in known for item in request.items)
        assert [i.score for i in request.items] == sorted((i.score for i in request.items), reverse=True)


def test_the_shipped_topology_does_not_rank_by_affect(topology: Topology) -> None:
    params = topology.operators["rank_items"].params
    assert isinstance(params, RankParams)
    assert params.goal == "off"


def test_recordings_do_not_overlap_and_the_voice_speaks_on_after_its_withdrawal() -> None:
    ends = [v.at_ms + len(story.read_voice(v.recording)) * 1000 // story.RATE_HZ for v in story.SPEECH]
    assert all(end <= after.at_ms for end, after in zip(ends, story.SPEECH[1:], strict=False))
    assert ends[-1] <= story.LENGTH_MS
    assert story.SPEECH[-1].at_ms > story.WITHDRAWN_MS
    assert len(story.SPEECH) <= 12


def test_the_face_model_reads_each_altered_picture_as_what_it_is_called(portrait: Portrait) -> None:
    engine, found = load("face_affect", threads=1), {}
    for expression in POSES:
        grey = np.asarray(cv2.cvtColor(portrait.frame({expression: 1.0}), cv2.COLOR_BGR2GRAY), np.uint8)
        square = FaceFinder(CascadeDetector()).find(grey, 0, None).square
        assert square is not None
        logits = engine.infer({"faces": crop(grey, square)[None, None]})["logits"]
        read = dict(zip(engine.spec.labels, softmax(logits, engine.spec.temperature)[0].tolist(), strict=True))
        found[expression] = max(read, key=lambda name: read[name])
    assert found == {expression: expression for expression in POSES}


def test_nobody_is_found_in_the_empty_picture(portrait: Portrait) -> None:
    grey = np.asarray(cv2.cvtColor(portrait.empty(), cv2.COLOR_BGR2GRAY), np.uint8)
    assert FaceFinder(CascadeDetector()).find(grey, 0, None).square is None


def test_what_is_playing_is_known_and_silence_is_silent() -> None:
    assert story.playing(3000) == ("sadness", "sadness “Das schwarze Stück Papier befindet sich da oben …”")
    assert story.playing(24_000) == ("absent", "")


def test_plain_lines_contain_chat_consent_states_and_orders_a_few_a_second(board: Board) -> None:
    assert len(list(Lines(board).new(0))) <= 4
    lines = Lines(Board(board.titles, board.start_ms, MODALITIES))
    assert list(lines.new(0)) == ["0:00  no window yet"]
    assert list(lines.new(500)) == []
    texts = [note.text for note in board.notes]
    assert "consent given for face, voice, text, behaviour" in texts
    assert "consent withdrawn for voice" in texts
    assert "voice: no consent" in texts
    assert any(" rises from " in text and "affect +" in text for text in texts)


@pytest.mark.parametrize("size", [(72, 20), (80, 24), (100, 30), (120, 40), (200, 60)])
def test_the_screen_never_exceeds_the_terminal(board: Board, portrait: Portrait, size: tuple[int, int]) -> None:
    columns, rows = size
    board.picture = cv2.imencode(".jpg", portrait.empty())[1].tobytes()
    frame = Frame(story.LABEL, 30_000, story.LENGTH_MS, *story.playing(30_000), "lift", FOOTER)
    lines = [line.plain for line in render(board, frame, columns, rows)]
    assert len(lines) <= rows
    assert all(len(line) <= columns for line in lines)
    assert story.LABEL in lines[0]
    assert BANNER in lines[1]
    assert FOOTER in lines[-1]
    shown = "\n".join(lines)
    for word in ("happiness", "valence", "face", "voice", "text", "conflict", "latency", "order by affect"):
        assert word in shown


def test_an_empty_board_has_a_screen_and_a_summary_too() -> None:
    empty = Board(read_titles(), modalities=MODALITIES)
    frame = Frame(story.LABEL, 0, story.LENGTH_MS, "", "", "lift", FOOTER)
    assert len(render(empty, frame, 80, 24)) <= 24
    assert len(summary(empty, None)) == 5


def test_the_summary_is_five_lines_and_follows_from_the_events(board: Board) -> None:
    lines = summary(board, 300 << 20)
    assert [line.partition(":")[0] for line in lines] == ["Expression", "Evidence", "Order", "Consent", "Cost"]
    top = {found[0] for e in board.finals if (found := likeliest(e.emotions))}
    assert all(name in top for name in ("sadness", "anger", "happiness", "neutral"))
    assert all(name in lines[0] for name in ("sadness", "anger", "happiness", "neutral"))
    assert "voice withdrawn at 0:51" in lines[3]
    assert "300 MB" in lines[4]


def test_in_the_recorded_run_the_order_changed_because_of_affect_and_the_reasons_add_up(board: Board) -> None:
    orders = [[item.base_rank for item in ranked.items] for ranked in board.lists]
    assert any(order != sorted(order) for order in orders)
    for ranked in board.lists:
        for item in ranked.items:
            assert sum(item.reasons.values()) == pytest.approx(item.score)


def test_no_voice_weighs_in_a_window_that_ends_later_than_its_withdrawal(board: Board) -> None:
    late = [e for e in board.finals if board.since_start(e.window_end_ms) > story.WITHDRAWN_MS + 2000]
    assert late
    assert all(e.modalities["voice"].weight == 0 for e in late)
    assert all(e.modalities["voice"].state == "no_consent" for e in late)


@pytest.mark.parametrize(
    ("terminal", "kind", "environment", "moves"),
    [
        (True, "xterm-256color", {}, True),
        (False, "xterm-256color", {}, False),
        (True, "dumb", {}, False),
        (True, "xterm-256color", {"CI": "true"}, False),
    ],
)
def test_the_screen_moves_only_where_somebody_can_see_it(
    terminal: bool, kind: str, environment: dict[str, str], moves: bool
) -> None:
    console = Console(force_terminal=terminal, width=80, height=24, _environ={"TERM": kind})
    assert can_redraw(console, environment) is moves


def test_without_a_terminal_the_view_is_plain_lines(board: Board, capsys: pytest.CaptureFixture[str]) -> None:
    view = choose_view(board, Source(story.LABEL, list, 1000), "lift", FOOTER, Console(force_terminal=False))
    assert isinstance(view, LineView)
    assert not isinstance(view, ScreenView)
    view.start()
    view.draw(60_000)
    view.stop()
    printed = capsys.readouterr().out
    assert story.LABEL in printed
    assert BANNER in printed
    assert "neutral" in printed


def test_a_missing_file_is_named_and_ends_with_65(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--media", "nowhere/my.mp4"]) == 65
    assert "nowhere/my.mp4: no such file" in capsys.readouterr().err


def test_a_file_that_is_no_media_is_named_and_ends_with_65(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wrong = tmp_path / "my.mp4"
    wrong.write_text("this is a letter")
    assert main(["--media", str(wrong)]) == 65
    assert "my.mp4" in capsys.readouterr().err


def test_a_file_of_ones_own_gets_a_consent_first_and_requests_for_an_order(folder: Path) -> None:
    source = media_source(folder / "media.mkv")
    events = list(itertools.islice(source.events(), 100))
    assert events[0].topic == "consents"
    assert source.length_ms == pytest.approx(story.LENGTH_MS, abs=200)
    assert {e.topic for e in events} == {"consents", "candidates", "video_frames", "audio_chunks"}
    with pytest.raises(MediaError):
        media_source(folder / "absent.mkv")


@pytest.mark.parametrize("answers", [["no"], ["yes", ""], ["yes", "maybe"]])
def test_the_camera_stays_off_without_two_clear_answers(answers: list[str]) -> None:
    given = iter(answers)
    with pytest.raises(RefusedUseError, match="stay off"):
        agree(lambda _: next(given))


def test_nobody_at_a_terminal_means_no_camera(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--camera"]) == 77
    assert "nobody is at a terminal" in capsys.readouterr().err


def test_what_a_camera_and_a_microphone_give_is_published_as_a_platform_would(folder: Path, topology: Topology) -> None:
    import av

    picture = cv2.VideoCapture(str(folder / "media.mkv"))
    sound = av.open(str(story.VOICES / "neutral_13b02Nb.flac"))
    capture = Capture(picture, sound)
    found: dict[str, Event] = {}
    for event in capture.events():
        found.setdefault(event.topic, event)
        if {"consents", "video_frames", "audio_chunks", "candidates"} <= found.keys():
            capture.stop()
    for event in found.values():
        assert message(event, "you", 1_700_000_000_000, topology).value
    assert found["consents"].fields["modalities"] == ["face", "voice"]


def test_a_recorder_that_ends_at_once_is_no_microphone() -> None:
    with pytest.raises(OSError, match="ended with code 1"):
        Recorder(["false"])


async def test_operators_that_cannot_start_say_why(tmp_path: Path) -> None:
    nowhere = {"STREAMER_CONTEXT": "demo", "STREAMER_BROKERS": "127.0.0.1:1"}
    operators = Operators(tmp_path / "log", nowhere)
    with pytest.raises(OperatorsError, match=r"127\.0\.0\.1:1") as failed:
        await operators.ready()
    assert failed.value.exit_code == 69
    await operators.stop(1)


def test_credits_name_every_borrowed_file() -> None:
    text = (CHECKOUT / "demo" / "README.md").read_text(encoding="utf-8")
    assert all(word in text for word in ("NASA", "scikit-image", "public domain", "EmoDB", "CC0"))
    catalogue = (CHECKOUT / "demo" / "catalogue" / "catalogue.jsonl").read_text(encoding="utf-8")
    assert json.loads(catalogue.splitlines()[0])["provenance"]
