"""Imported encoders, named by the topology, give observations and events."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kernels import engines, model_input
from kernels.calibration import softmax
from kernels.face.crop import Square
from kernels.face.jpeg import decode_rgb
from kernels.vad import vad_of
from kernels.voice.speech import track_pitch
from operators import encoders, sense_text
from operators.fuse_affect import FuseAffect
from operators.fuse_affect import Params as FuseParams
from operators.model_import.folder import ImportRequest, import_model
from operators.payloads import Observation
from operators.sense_face import Params as FaceParams
from operators.sense_face import SenseFace
from operators.sense_text import SenseText
from operators.sense_voice import Params as VoiceParams
from operators.sense_voice import SenseVoice
from streamer.__main__ import main
from streamer.cli.arguments import default_topology
from streamer.errors import ModelError, RefusedUseError
from streamer.operator import Context
from streamer.settings import load_settings
from tests.operators import test_sense_face, test_sense_text, test_sense_voice
from tests.shipped import MODALITIES
from tests.tiny_encoders import labelled

TINY = Path(__file__).parents[1] / "tiny_encoders"
SETTINGS: dict[str, Any] = {"context": "demo", "threads": 1}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with my_face, my_voice and my_text, imported without calibration."""
    out = tmp_path_factory.mktemp("models")
    for family, modality in labelled.FOR.items():
        import_model(ImportRequest(path=TINY / family, name=f"my_{modality}", modality=modality, out=out, threads=1))
    return out


def combined(logits: Any, spec: engines.ModelSpec) -> tuple[dict[str, float], float]:
    """Compute p of each emotion, and the share of mapped classes, from logits by plain loops."""
    p = dict(zip(spec.classes, softmax(logits, spec.temperature).tolist(), strict=True))
    by_emotion = {label: sum(p[name] for name, to in spec.classes.items() if to == label) for label in spec.labels}
    mapped_share = sum(by_emotion.values())
    return {label: value / mapped_share for label, value in by_emotion.items()}, mapped_share


async def test_a_vit_reads_faces_in_colour_where_they_are_found(models: Path) -> None:
    operator = SenseFace(FaceParams(model="my_face"), test_sense_face.context(test_sense_face.granted(), models=models))
    await operator.open()
    frame = test_sense_face.shot()
    (o,) = await test_sense_face.seen(operator, frame)
    assert isinstance(o, Observation)
    engine = engines.load("my_face", threads=1, imported=models)
    input_format = model_input.face_input(engine.spec)
    assert o.box is not None
    box = operator._tracks["s1", "camera"].square  # noqa: SLF001 - the observation's box is rounded
    assert box is not None
    assert Square(*o.box[:3]).overlap(box) > 0.99
    picture = decode_rgb(frame.payload.data, width=320, height=240)
    logits, embeddings = model_input.raw_outputs(engine, input_format, [input_format.cut(picture, box)])
    p, mapped_share = combined(logits[0], engine.spec)
    assert o.emotions == pytest.approx(p, abs=1e-5)
    assert o.quality["known"] == pytest.approx(mapped_share, abs=1e-4)
    assert 1 / 7 <= o.confidence <= max(p.values()) * mapped_share + 1 / 7
    assert (o.model, embeddings, o.vad_source) == (engine.spec.id, None, "derived")


async def test_embeddings_are_asked_of_an_encoder_without_any_and_stay_null(models: Path) -> None:
    operator = SenseFace(
        FaceParams(model="my_face"), test_sense_face.context(test_sense_face.granted(), models=models, embeddings=True)
    )
    await operator.open()
    (o,) = await test_sense_face.seen(operator, test_sense_face.shot())
    assert o.embedding is None
    assert o.emotions


async def test_a_wav2vec2_reads_an_utterance_alike_however_it_was_chunked(models: Path) -> None:
    observed = {}
    for lengths_ms in ([100], [37, 113, 64]):
        operator = await test_sense_voice.opened(params=VoiceParams(model="my_voice"), models=models)
        records = test_sense_voice.stream(test_sense_voice.SPEECH, lengths_ms)
        present = [o for o in await test_sense_voice.told(operator, records) if not o.absent]
        observed[len(lengths_ms)] = [(o.start_ms, o.end_ms, o.emotions, o.confidence) for o in present]
    assert observed[1] == observed[3]
    assert len(observed[1]) > 8
    assert {tuple(p) for _, _, p, _ in observed[1]} == {("happiness", "sadness", "anger", "neutral")}
    assert all(0.25 <= sure <= max(p.values()) + 1e-3 for _, _, p, sure in observed[1])


def test_clips_of_many_lengths_are_each_read_as_if_alone(models: Path) -> None:
    engine = engines.load("my_voice", threads=1, imported=models)
    input_format = model_input.voice_input(engine.spec)
    rng = np.random.default_rng(0)
    lengths = (48_000, 9600, 16_000, 48_000, 9600)
    pieces = [track_pitch((rng.normal(0, 0.3, n) ** 3).astype(np.float32)) for n in lengths]
    alone = np.concatenate([model_input.run_model(engine, input_format, [piece]).emotions for piece in pieces])
    assert model_input.run_model(engine, input_format, pieces).emotions == pytest.approx(alone, abs=1e-5)
    assert len({tuple(row) for row in alone.round(6).tolist()}) == len(pieces)


async def test_unmapped_classes_of_a_bert_lower_the_confidence(tmp_path: Path) -> None:
    labels = "joy=none,love=none"
    spec = import_model(
        ImportRequest(path=TINY / "bert", name="mine", modality="text", out=tmp_path, labels=labels, threads=1)
    ).spec
    assert "happiness" not in spec.labels
    params = sense_text.Params(model="mine", vad_model=None, intent_model=None)
    operator = SenseText(params, test_sense_text.context(test_sense_text.granted(), models=tmp_path))
    await operator.open()
    (o,) = await test_sense_text.told(operator, test_sense_text.said("I love this night"))
    assert 0 < o.quality["known"] < 0.999
    assert sum(o.emotions.values()) == pytest.approx(1.0)
    assert o.confidence == pytest.approx(max(o.emotions.values()) * o.quality["known"], abs=1e-4)


async def test_a_bert_reads_messages_with_vad_derived_from_its_emotions(models: Path) -> None:
    params = sense_text.Params(model="my_text", vad_model=None, intent_model=None)
    operator = SenseText(params, test_sense_text.context(test_sense_text.granted(), models=models))
    await operator.open()
    (o,) = await test_sense_text.told(operator, test_sense_text.said("I love this night 😀"))
    engine = engines.load("my_text", threads=1, imported=models)
    input_format = model_input.text_input(engine.spec)
    tokens = input_format.tokens(engine.spec.folder, 64).encode(["I love this night 😀"])
    p, mapped_share = combined(engine.infer(input_format.arrays(tokens))["logits"][0], engine.spec)
    assert o.emotions == pytest.approx(p, abs=1e-5)
    assert mapped_share == pytest.approx(1.0)
    assert (o.valence, o.arousal, o.dominance) == pytest.approx(vad_of(p), abs=1e-5)
    assert (o.vad_source, o.quality["unknown"]) == ("derived", 0.2)
    assert o.confidence == pytest.approx(max(p.values()) * 0.8, abs=1e-4)


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (
            lambda c: SenseText(sense_text.Params(model="my_text"), c),
            "text_vad@1 was fitted on text_affect@1, not on my_text",
        ),
        (
            lambda c: SenseText(
                sense_text.Params(model="my_text", vad_model=None, intent_model=None, max_tokens=80), c
            ),
            "say max_tokens: 64",
        ),
        (lambda c: SenseText(sense_text.Params(model="my_face"), c), "reads face, not text"),
        (lambda c: SenseFace(FaceParams(model="my_voice"), c), "reads voice, not face"),
        (lambda c: SenseVoice(VoiceParams(model="my_text"), c), "reads text, not voice"),
        (lambda c: SenseVoice(VoiceParams(model="my_noise"), c), "models here: face_affect, my_face"),
    ],
)
async def test_a_model_that_does_not_fit_its_operator_is_refused_at_start(
    build: Callable[[Context], Any], words: str, models: Path
) -> None:
    with pytest.raises(ModelError, match=words) as refused:
        await build(Context("sense", load_settings(models=models, **SETTINGS))).open()
    assert refused.value.exit_code == 78


@pytest.mark.parametrize("state", ["unsettled", "non_commercial"])
def test_an_imported_model_runs_only_where_its_licence_is_accepted(state: Any, tmp_path: Path) -> None:
    import_model(
        ImportRequest(path=TINY / "bert", name="mine", modality="text", out=tmp_path, licence=state, threads=1)
    )
    with pytest.raises(RefusedUseError, match=f"mine@.* is {state} .*STREAMER_ACCEPT_LICENCES={state}"):
        encoders.load_encoder("mine", Context("sense_text", load_settings(context="research", models=tmp_path)))
    accepting = Context("sense_text", load_settings(context="research", models=tmp_path, accept_licences=state))
    assert encoders.load_encoder("mine", accepting).spec.licence == state
    assert accepting.runs.licences["mine"] == f"{state}, accepted by STREAMER_ACCEPT_LICENCES"


async def test_fusion_divides_out_the_training_prior_of_an_import(tmp_path: Path) -> None:
    shares = "happiness=.5,sadness=.2,surprise=.1,fear=.1,anger=.1"
    spec = import_model(
        ImportRequest(path=TINY / "bert", name="mine", modality="text", out=tmp_path, prior=shares, threads=1)
    ).spec
    fuser = FuseAffect(FuseParams(), Context("fuse_affect", load_settings(models=tmp_path), modalities=MODALITIES))
    await fuser.open()
    assert fuser._priors[spec.id]["happiness"] == 0.5  # noqa: SLF001 - what fusion will use
    (tmp_path / "mine" / "model.json").write_text("{}")
    context = Context("fuse_affect", load_settings(models=tmp_path), modalities=MODALITIES)
    with pytest.raises(ModelError, match="models/mine/model.json"):
        await FuseAffect(FuseParams(), context).open()


def test_a_topology_that_names_it_turns_a_chat_into_events_of_that_model(
    models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = default_topology().read_text()
    shipped = "params: {model: text_affect, vad_model: text_vad, intent_model: text_intent"
    assert shipped in text
    (tmp_path / "topology.yaml").write_text(
        text.replace(shipped, "params: {model: my_text, vad_model: null, intent_model: null")
    )
    session = tmp_path / "session"
    session.mkdir()
    lines = [{"event_time_ms": 1000 * n, "text": "I love this night"} for n in range(1, 4)]
    (session / "chat.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    for name, value in {"MODELS": models, "CONTEXT": "demo", "THREADS": 1}.items():
        monkeypatch.setenv(f"STREAMER_{name}", str(value))
    out = tmp_path / "events"
    asked = ["replay", str(session), "--topology", str(tmp_path / "topology.yaml"), "--consent", "text"]
    assert main([*asked, "--speed", "max", "--out", str(out)]) == 0
    events = [json.loads(line) for line in (out / "affect_events.jsonl").read_text().splitlines()]
    assert events
    spec = engines.read_spec("my_text", imported=models)
    assert {event["models"]["text"] for event in events if "text" in event["models"]} == {spec.id}
    estimated = [event for event in events if event["emotions"]]
    assert estimated
    assert set(estimated[0]["supported"]) == set(spec.labels)
    assert estimated[0]["vad_source"] == "derived"
    assert np.isfinite(estimated[0]["confidence"])
