"""Text observations from messages of every kind: plain, empty, foreign, endless, refused; the real models."""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray

from kernels import engines
from kernels.emotions import EMOTIONS
from kernels.intents import INTENTS, likeliest
from operators.payloads import ChatMessage, Consent, Control, Observation
from operators.sense_text import Params, SenseText
from streamer.errors import ModelError, RefusedUseError
from streamer.event_time import SystemClock
from streamer.operator import Context
from streamer.payloads import Refusal, decode, encode
from streamer.records import Origin, Record
from streamer.settings import load_settings

AT_MS = 1_790_000_000_000
LINES = {
    "happiness": "This made my day, I am so happy and grateful, thank you!",
    "sadness": "I miss her so much, I cried all night.",
    "fear": "I'm terrified, I don't dare to go outside.",
    "anger": "I'm furious, stop lying to me, you idiot!",
    "disgust": "That is gross, it makes me sick to my stomach.",
    "trust": "Great job, I really admire the way you did this.",
    "neutral": "The bus leaves at nine from the second platform.",
}


class StandingClock(SystemClock):
    """A clock that stands where the messages are."""

    def now_ms(self) -> int:
        return AT_MS + 100


def granted(session_id: str = "s1", **changes: Any) -> Consent:
    fields: dict[str, Any] = {"modalities": ["text"], "disclosed_at_ms": 1, **changes}
    return Consent(session_id=session_id, event_time_ms=AT_MS, user_id="u", **fields)


def said(text: str, offset: int = 0, **changes: Any) -> Record[ChatMessage]:
    fields: dict[str, Any] = {"session_id": "s1", "speaker": "user", "message_id": f"m{offset}", **changes}
    message = ChatMessage(event_time_ms=AT_MS + offset, text=text, **fields)
    return Record(message.session_id, AT_MS + offset, AT_MS + offset + 50, message, Origin("chat_messages", 0, offset))


def context(*consents: Consent, controls: Sequence[Control] = (), **settings: Any) -> Context:
    tables: dict[str, dict[str, Any]] = {
        "consents": {c.session_id: c for c in consents},
        "controls": {c.app: c for c in controls},
    }
    return Context("sense_text", load_settings(**{"context": "demo", **settings}), clock=StandingClock(), tables=tables)


async def opened(*consents: Consent, **options: Any) -> SenseText:
    operator = SenseText(Params(), context(*consents or (granted(),), **options))
    await operator.open()
    return operator


async def told(operator: SenseText, *records: Record[Any]) -> list[Any]:
    return [record.payload for record in await operator.process(records)]


class Counted:
    """A real engine that counts the rows it was given."""

    def __init__(self, engine: engines.Engine) -> None:
        self.spec, self.backend, self.reasons_against = engine.spec, engine.backend, engine.reasons_against
        self._engine, self.rows = engine, 0

    def infer(self, inputs: Mapping[str, NDArray[Any]]) -> Mapping[str, NDArray[Any]]:
        self.rows += len(next(iter(inputs.values())))
        return self._engine.infer(inputs)


@pytest.fixture
def loaded(monkeypatch: pytest.MonkeyPatch) -> dict[str, Counted]:
    """The engines that operators load in this test, by name."""
    counted: dict[str, Counted] = {}
    compiled = engines.load

    def load(name: str, **options: Any) -> Counted:
        return counted.setdefault(name, Counted(compiled(name, **options)))

    monkeypatch.setattr(engines, "load", load)
    return counted


async def test_what_a_line_says_is_its_most_probable_emotion() -> None:
    records = [said(line, at) for at, line in enumerate(LINES.values())]
    read = await told(await opened(), *records)
    assert [max(o.emotions, key=o.emotions.get) for o in read] == list(LINES)


async def test_an_observation_keeps_the_contract() -> None:
    (record,) = await (await opened()).process([said("I love this song", 7)])
    o = record.payload
    assert isinstance(o, Observation)
    assert (record.key, record.event_time_ms, record.origin) == ("s1", AT_MS + 7, Origin("chat_messages", 0, 7))
    assert (o.session_id, o.modality, o.source_id, o.source_kafka_ms) == ("s1", "text", "m7", AT_MS + 57)
    assert o.start_ms == o.end_ms == o.event_time_ms == AT_MS + 7
    assert o.emotions is not None
    assert tuple(o.emotions) == EMOTIONS
    assert sum(o.emotions.values()) == pytest.approx(1.0, abs=1e-9)
    assert o.confidence == pytest.approx(max(o.emotions.values()))
    assert o.vad_source == "measured"
    assert all(v is not None and -1 <= v <= 1 for v in (o.valence, o.arousal, o.dominance))
    assert (o.embedding, o.absent, o.mode) == (None, False, "full")
    assert o.intents is not None
    assert tuple(o.intents) == INTENTS
    assert sum(o.intents.values()) == pytest.approx(1.0, abs=1e-5)
    assert o.quality == {"tokens": 6.0, "truncated": 0.0, "unknown": 0.0}
    assert o.model.startswith("text_affect@")
    assert decode(encode(o), Observation) == o


async def test_what_a_line_asks_of_the_session_is_its_most_probable_intent() -> None:
    asked = {"save this song to my list": "save_or_share", "goodbye, see you": "leave", "It rained all day.": "none"}
    read = await told(await opened(), *(said(line, at) for at, line in enumerate(asked)))
    assert [likeliest(o.intents, 0.0) for o in read] == list(asked.values())


async def test_without_an_intent_model_an_observation_has_no_intents_and_the_same_emotions() -> None:
    operator = SenseText(Params(intent_model=None), context(granted()))
    await operator.open()
    (plain,), (full,) = await told(operator, said("bye")), await told(await opened(), said("bye"))
    assert plain.intents is None
    assert plain == msgspec.structs.replace(full, intents=None)


async def test_a_head_of_another_encoder_is_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    load = engines.load

    def altered(name: str, **options: Any) -> Any:
        engine = Counted(load(name, **options))
        if name == "text_intent":
            engine.spec = msgspec.structs.replace(engine.spec, input={**engine.spec.input, "of_sha256": "0"})
        return engine

    monkeypatch.setattr(engines, "load", altered)
    with pytest.raises(ModelError, match="text_intent@1 was fitted on .* say intent_model: null"):
        await opened()


async def test_valence_orders_lines_as_a_reader_would() -> None:
    lines = ("What a wonderful, happy day!", "The bus leaves at nine.", "He was murdered and nobody helped him.")
    best, plain, worst = [o.valence for o in await told(await opened(), *map(said, lines))]
    assert best > plain > worst


async def test_a_batch_reads_each_line_as_if_it_were_alone() -> None:
    operator = await opened()
    records = [said(line, at) for at, line in enumerate([*LINES.values(), "ok", "word " * 50])]
    together = await told(operator, *records)
    alone = [(await told(operator, record))[0] for record in records]
    for one, other in zip(together, alone, strict=True):
        assert one.emotions == pytest.approx(other.emotions, abs=1e-2)
        assert one.valence == pytest.approx(other.valence, abs=1e-2)


async def test_without_consent_nothing_is_encoded_and_only_a_told_person_leaves_a_trace(
    loaded: dict[str, Counted],
) -> None:
    operator = await opened(granted("told", modalities=["face"]), granted("untold", disclosed_at_ms=None))
    before = loaded["text_affect"].rows
    records = [said("I am sad", at, session_id=name) for at, name in enumerate(("told", "untold", "stranger"))]
    (absent,) = await told(operator, *records)
    assert (absent.session_id, absent.absent, absent.reason) == ("told", True, "no_consent")
    assert (absent.emotions, absent.valence, absent.source_id) == (None, None, "m0")
    assert loaded["text_affect"].rows == before


async def test_refused_lines_are_counted_by_reason() -> None:
    where = context(granted())
    operator = SenseText(Params(), where)
    await operator.open()
    await told(operator, said("hi", session_id="stranger"), said("hi", 1, speaker="other"), said("hello", 2))
    assert where.metrics.totals["no_consent"] == 1
    assert where.metrics.totals["bystander"] == 1


async def test_another_speaker_is_never_encoded(loaded: dict[str, Counted]) -> None:
    operator = await opened()
    before = loaded["text_affect"].rows
    assert await told(operator, said("I hate everything", speaker="other")) == []
    assert loaded["text_affect"].rows == before


async def test_the_kill_switch_stops_reading(loaded: dict[str, Counted]) -> None:
    operator = await opened(controls=[Control(event_time_ms=AT_MS, app="affect", sensing_off=True)])
    before = loaded["text_affect"].rows
    assert [o.reason for o in await told(operator, said("hello"))] == ["switched_off"]
    assert loaded["text_affect"].rows == before


async def test_expressions_only_says_that_there_was_a_message_and_encodes_nothing(loaded: dict[str, Counted]) -> None:
    operator = await opened(granted(expressions_only=True))
    before = loaded["text_affect"].rows
    (o,) = await told(operator, said("I am so sad"))
    assert (o.mode, o.expressions, o.emotions, o.vad_source) == ("expressions_only", {"presence": 1.0}, None, "none")
    assert (o.valence, o.arousal, o.dominance, o.embedding) == (None, None, None, None)
    assert loaded["text_affect"].rows == before


async def test_withdrawn_consent_sends_one_absent_observation() -> None:
    withdrawn = granted(modalities=[])
    record = Record("s1", AT_MS, AT_MS + 50, withdrawn, Origin("consents", 0, 3))
    (out,) = (await opened()).on_table("consents", record)
    assert (out.payload.absent, out.payload.reason, out.payload.end_ms) == (True, "no_consent", AT_MS)


@pytest.mark.parametrize("text", ["", "   ", "\n\t \u00a0"])
async def test_an_empty_message_is_a_dead_letter_and_its_neighbours_are_read(text: str) -> None:
    first, empty, last = await told(await opened(), said("hello"), said(text, 1), said("goodbye", 2))
    assert isinstance(empty, Refusal)
    assert empty.reason == "undecodable"
    assert (first.source_id, last.source_id) == ("m0", "m2")


async def test_a_message_declared_to_be_in_another_language_is_not_guessed_at(loaded: dict[str, Counted]) -> None:
    operator = await opened()
    before = loaded["text_affect"].rows
    german, english = await told(
        operator, said("Das ist gut", language="de"), said("This is good", 1, language="en-GB")
    )
    assert (german.absent, german.reason, german.emotions) == (True, "language", None)
    assert english.emotions is not None
    assert loaded["text_affect"].rows == before + 1


UNDECLARED_OR_ENGLISH = [None, "", " ", "und", "mul", "zxx", "auto", "UND", "en", "EN", "en-US", "en_US", "eng"]


@pytest.mark.parametrize("language", UNDECLARED_OR_ENGLISH)
async def test_a_language_that_is_not_declared_is_taken_for_english(language: str | None) -> None:
    (read,) = await told(await opened(), said("I am so happy", language=language))
    assert read.emotions["happiness"] > 0.5


@pytest.mark.parametrize("language", ["de", "es-MX", "ent", "e", "hi", "zh-Hans"])
async def test_a_declared_other_language_is_absent(language: str) -> None:
    (read,) = await told(await opened(), said("I am so happy", language=language))
    assert (read.absent, read.reason) == (True, "language")


async def test_words_outside_the_vocabulary_lower_the_confidence() -> None:
    (o,) = await told(await opened(), said("ɷƿ ƿɷ"))
    assert o.quality["unknown"] == 1.0
    assert o.confidence == 0.0


async def test_an_endless_message_is_cut_and_says_so() -> None:
    (o,) = await told(await opened(), said("I am so happy today. " * 20_000))
    assert o.quality["truncated"] == 1.0
    assert max(o.emotions, key=o.emotions.get) == "happiness"


async def test_embeddings_leave_only_where_the_deployment_lets_them() -> None:
    (o,) = await told(await opened(embeddings=True), said("hello"))
    assert o.embedding is not None
    vector = np.frombuffer(o.embedding, dtype="<f2")
    assert vector.shape == (384,)
    assert np.isfinite(vector).all()


async def test_a_batch_without_a_readable_line_asks_no_model(loaded: dict[str, Counted]) -> None:
    operator = await opened()
    before = loaded["text_affect"].rows
    assert await told(operator) == []
    assert len(await told(operator, said(""))) == 1
    assert loaded["text_affect"].rows == before


async def test_a_use_that_is_refused_does_not_open() -> None:
    with pytest.raises(RefusedUseError, match="workplace"):
        await opened(context="workplace")


async def test_a_model_that_is_not_there_is_named() -> None:
    operator = SenseText(Params(model="text_other"), context())
    with pytest.raises(ModelError, match="text_other"):
        await operator.open()


@pytest.mark.parametrize("max_tokens", [0, 7, 513])
def test_a_length_the_encoder_does_not_have_is_refused(max_tokens: int) -> None:
    with pytest.raises(ValueError, match="max_tokens"):
        Params(max_tokens=max_tokens)


async def test_nothing_is_held_between_batches() -> None:
    operator = await opened()
    await told(operator, said("hello"))
    assert operator.needs_from("s1") is None
    operator.forget("s1")
    await operator.close()
