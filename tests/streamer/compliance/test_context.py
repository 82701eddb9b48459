"""`streamer run` itself, on a real Kafka: what it is used for decides whether it starts, before a model is loaded."""

from __future__ import annotations

import pytest

from kernels import engines
from operators import consent, rank_items
from streamer.__main__ import main
from streamer.brokers.embedded.local_kafka import LocalKafka
from streamer.runtime.pipeline import Pipeline

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(60, func_only=True)]

REFUSED = [
    ("sense_text", None, None, "STREAMER_CONTEXT is not set"),
    ("sense_face", "casino", None, "unknown"),
    ("sense_voice", "law_enforcement", None, "refused"),
    ("sense_text", "insurance", "medical: study 7", "refused"),
    ("sense_text", "workplace", None, "STREAMER_CONTEXT_REFERENCE"),
    ("sense_text", "proctoring", "fun: because", "STREAMER_CONTEXT_REFERENCE"),
    ("rank_items", "advertising", None, "may sense but never rank"),
    ("rank_items", "political", None, "may sense but never rank"),
]
ALLOWED = [("sense_text", "advertising", None), ("sense_text", "workplace", "safety: lorry drivers, agreement 12")]


@pytest.fixture(autouse=True)
def machine(kafka: LocalKafka, monkeypatch: pytest.MonkeyPatch) -> None:
    """A Kafka, and a run that ends when it would begin to read."""

    async def ends(pipeline: Pipeline) -> None:
        await pipeline.stop()

    monkeypatch.setattr(Pipeline, "run", ends)
    monkeypatch.setenv("STREAMER_BROKERS", kafka.address)
    monkeypatch.setenv("STREAMER_ACCEPT_LICENCES", "unsettled")


def run(operator: str, context: str | None, reference: str | None, monkeypatch: pytest.MonkeyPatch) -> int:
    for name, value in (("STREAMER_CONTEXT", context), ("STREAMER_CONTEXT_REFERENCE", reference)):
        if value is None:
            monkeypatch.delenv(name, raising=False)
        else:
            monkeypatch.setenv(name, value)
    return main(["run", "--only", operator])


@pytest.mark.parametrize(("operator", "context", "reference", "words"), REFUSED)
def test_a_refused_use_does_not_start_and_says_why(
    operator: str,
    context: str | None,
    reference: str | None,
    words: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(engines, "load", lambda *_, **__: pytest.fail("a model was loaded for a refused use"))
        assert run(operator, context, reference, monkeypatch) == 77
    printed = capsys.readouterr().err
    assert words in printed
    assert "ready" not in printed


@pytest.mark.parametrize(("operator", "context", "reference"), ALLOWED)
def test_a_use_that_may_sense_starts(
    operator: str,
    context: str,
    reference: str | None,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run(operator, context, reference, monkeypatch) == 0
    printed = capsys.readouterr().err
    assert f"ready: {operator}" in printed
    assert "video_frames: raw media stays on Kafka's disks for up to 81 s" in printed


@pytest.mark.parametrize(("operator", "context"), [("sense_text", "credit"), ("rank_items", "advertising")])
def test_without_the_check_a_refused_use_would_start(
    operator: str, context: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (consent, rank_items):
        monkeypatch.setattr(module, "check_context", lambda *_, **__: None)
    assert run(operator, context, None, monkeypatch) == 0
