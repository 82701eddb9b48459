"""The command line for somebody who does something wrong: one clear error, the documented exit code, no traceback."""

from __future__ import annotations

import io
import json
import socket
from pathlib import Path

import pytest

from streamer.__main__ import main
from streamer.cli.terminal import show_progress

NOBODY = "127.0.0.1:9"


@pytest.fixture(autouse=True)
def no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("BROKERS", "CONTEXT", "CONTEXT_REFERENCE", "ACCEPT_LICENCES", "THREADS"):
        monkeypatch.delenv(f"STREAMER_{name}", raising=False)


def _error(capsys: pytest.CaptureFixture[str]) -> str:
    captured = capsys.readouterr()
    assert "Traceback" not in captured.err
    assert captured.err.rsplit("\n", 1)[-1] == ""
    return captured.err


@pytest.mark.parametrize("arguments", [["fly"], [], ["run", "--onyl", "sense_face"], ["replay"], ["tail"]])
def test_wrong_usage_is_64(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 64
    assert "error: " in _error(capsys)


@pytest.mark.parametrize("command", [["run"], ["replay", "."], ["tail", "affect_live"]])
def test_a_kafka_that_does_not_answer_is_69_and_named(
    command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "chat.jsonl").write_text('{"event_time_ms": 1, "text": "hello"}\n')
    monkeypatch.setenv("STREAMER_BROKERS", NOBODY)
    monkeypatch.setenv("STREAMER_CONTEXT", "research")
    arguments = [str(tmp_path) if a == "." else a for a in command]
    assert main(arguments) == 69
    assert NOBODY in _error(capsys)


def test_a_port_in_use_is_69_and_named(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert main(["broker", "--port", str(port)]) == 69
    assert str(port) in _error(capsys)


@pytest.mark.parametrize(
    ("context", "reference", "words"),
    [
        (None, None, "STREAMER_CONTEXT is not set"),
        ("casino", None, "unknown"),
        ("law_enforcement", None, "refused"),
        ("workplace", None, "STREAMER_CONTEXT_REFERENCE"),
        ("education", "fun: because", "STREAMER_CONTEXT_REFERENCE"),
        ("advertising", None, "may sense but never rank"),
    ],
)
async def test_a_use_that_is_refused_says_which_and_what_would_do(
    context: str | None, reference: str | None, words: str
) -> None:
    from operators.consent import check_context
    from streamer.errors import RefusedUseError

    with pytest.raises(RefusedUseError, match=words) as refused:
        check_context(context, reference, ranks=True)
    assert refused.value.exit_code == 77


@pytest.mark.parametrize(
    ("context", "reference"),
    [("entertainment", None), ("workplace", "safety: lorry drivers, agreement 12"), ("education", "medical: study 7")],
)
def test_a_use_that_is_allowed_passes(context: str, reference: str | None) -> None:
    from operators.consent import check_context

    check_context(context, reference, ranks=True)


def test_advertising_may_sense() -> None:
    from operators.consent import check_context

    check_context("advertising", None)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("nothing.mkv", None, "no such file or folder"),
        ("notes.mp4", b"these are notes", "not a media file"),
        ("empty", "folder", "a session folder holds"),
    ],
)
def test_a_session_that_is_none_is_65_and_named(
    name: str, content: object, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / name
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content:
        path.mkdir()
    assert main(["replay", str(path), "--speed", "max", "--consent", "all"]) == 65
    error = _error(capsys)
    assert words in error
    assert str(path) in error


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("not json", "line 2"),
        ('{"text": "when?"}', "event_time_ms is missing"),
        ('{"event_time_ms": -5, "text": "x"}', "from 0 on"),
        ('{"event_time_ms": 1.5, "text": "x"}', "whole number"),
        ("[1]", "line 2"),
    ],
)
def test_a_line_that_cannot_be_read_is_65_with_its_number(
    line: str, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "chat.jsonl").write_text(json.dumps({"event_time_ms": 1, "text": "fine"}) + f"\n{line}\n")
    assert main(["replay", str(tmp_path), "--speed", "max"]) == 65
    assert words in _error(capsys)


def test_a_file_for_a_topic_that_is_not_from_outside_is_65_and_the_others_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "affect_events.jsonl").write_text('{"event_time_ms": 1}\n')
    monkeypatch.setenv("STREAMER_CONTEXT", "research")
    monkeypatch.setenv("STREAMER_ACCEPT_LICENCES", "unsettled")
    assert main(["replay", str(tmp_path), "--speed", "max", "--consent", "all"]) == 65
    error = _error(capsys)
    assert "affect_events" in error
    assert "chat_messages" in error


def test_consent_to_something_that_is_no_modality_is_refused_before_anything_is_loaded(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "chat.jsonl").write_text('{"event_time_ms": 1, "text": "x"}\n')
    assert main(["replay", str(tmp_path), "--speed", "max", "--consent", "face,nose"]) == 78
    assert "'nose': no modality; there are face, voice, text, behaviour" in _error(capsys)


def test_a_chat_that_is_not_utf_8_is_65(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "chat.jsonl").write_bytes(b"\xff\xfe{")
    assert main(["replay", str(tmp_path), "--speed", "max"]) == 65
    assert "not UTF-8" in _error(capsys)


def test_wrong_settings_are_78_all_at_once(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("STREAMER_THREADS", "0")
    monkeypatch.setenv("STREAMER_QUEUE", "some")
    assert main(["run"]) == 78
    error = _error(capsys)
    assert "STREAMER_THREADS" in error
    assert "STREAMER_QUEUE" in error


def test_an_unknown_operator_is_78_and_the_known_ones_are_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("STREAMER_BROKERS", NOBODY)
    assert main(["run", "--only", "sense_smell"]) == 78
    assert "sense_text" in _error(capsys)


def test_an_unknown_topic_is_78(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tail", "affect_event"]) == 78
    assert "affect_events" in _error(capsys)


def test_tail_without_a_kafka_says_how_to_get_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tail", "affect_events"]) == 78
    assert "streamer broker" in _error(capsys)


def test_a_folder_without_consent_is_read_by_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "chat.jsonl").write_text('{"event_time_ms": 1000, "text": "I am so happy"}\n')
    monkeypatch.setenv("STREAMER_CONTEXT", "research")
    monkeypatch.setenv("STREAMER_ACCEPT_LICENCES", "unsettled")
    assert main(["replay", str(tmp_path), "--speed", "max"]) == 0
    assert capsys.readouterr().out == ""


class Screen(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(("kind", "shown"), [("dumb", "loading\n"), ("xterm", "\r\033[Kloading:  50%")])
def test_progress_is_plain_lines_where_a_terminal_cannot_rewrite_one(
    kind: str, shown: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    screen = Screen()
    monkeypatch.setenv("TERM", kind)
    monkeypatch.setattr("sys.stderr", screen)
    show_progress()("loading", 0.5)
    assert screen.getvalue() == shown


def test_progress_is_cut_to_a_narrow_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Screen()
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.setattr("sys.stderr", screen)
    show_progress()("x" * 200, 0.5)
    assert screen.getvalue() == "\r\033[K" + "x" * 59
