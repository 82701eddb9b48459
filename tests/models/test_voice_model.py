"""The shipped voice model: its files agree, and it recognises emotions of voices that it was not trained on."""

import json

import numpy as np
import pytest
from numpy.typing import NDArray

from kernels.calibration import softmax
from kernels.emotions import SEVEN
from kernels.engines import MODELS, Engine, licence_refusal, load
from kernels.model_input import emotions
from kernels.vad import word_likelihoods
from kernels.voice.audio_files import read_audio
from kernels.voice.speech import PIECE_FRAMES, stack_pieces, track_pitch, voice_features
from models.voice_affect.recipe.corpus import LABELS, emodb, split_pieces
from tests.voices import ALL_VOICES, pause

FOLDER = MODELS / "voice_affect"


@pytest.fixture(scope="module")
def engine() -> Engine:
    return load("voice_affect", threads=1)


def predict(engine: Engine, samples: NDArray[np.floating]) -> NDArray[np.float64]:
    features, mask = stack_pieces(split_pieces(voice_features(track_pitch(samples))))
    return softmax(engine.infer({"features": features, "mask": mask})["logits"].mean(axis=0), engine.spec.temperature)


def test_the_model_is_free_and_declares_its_labels(engine: Engine) -> None:
    assert engine.spec.licence == "free"
    assert licence_refusal(engine.spec, "") is None
    assert tuple(engine.spec.labels) == SEVEN
    assert tuple(engine.spec.classes) == LABELS
    assert sum(engine.spec.prior.values()) == pytest.approx(1.0)
    assert 0.25 < engine.spec.temperature < 4.0
    for name in ("card.md", "LICENSE", "NOTICE"):
        assert (FOLDER / name).stat().st_size > 200, name


def test_its_classes_are_spread_over_similar_emotions(engine: Engine) -> None:
    likelihoods = word_likelihoods(LABELS, SEVEN)
    assert {word: pytest.approx(row, abs=1e-4) for word, row in likelihoods.items()} == dict(engine.spec.classes)
    angry, _ = emotions(engine.spec, np.log(np.array([[0.9, 0.04, 0.03, 0.03]])))
    p = dict(zip(SEVEN, angry[0].tolist(), strict=True))
    assert max(p, key=lambda name: p[name]) == "anger"
    assert min(p["fear"], p["disgust"]) > 4 * max(p["happiness"], p["neutral"], p["sadness"])


def test_logits_and_a_128_wide_embedding_come_out_finite(engine: Engine) -> None:
    features, mask = stack_pieces([voice_features(track_pitch(x)) for x in (pause(1.0) / 32768, np.zeros(48000))])
    out = engine.infer({"features": features, "mask": mask})
    assert out["logits"].shape == (2, 4)
    assert out["embedding"].shape == (2, 128)
    assert all(np.isfinite(values).all() for values in out.values())


def test_it_recognises_the_emotions_of_a_speaker_it_was_not_trained_on(engine: Engine) -> None:
    right = [LABELS[int(predict(engine, read_audio(path)).argmax())] == emotion for emotion, path in ALL_VOICES]
    assert len(right) == 12
    assert sum(right) >= 10


def test_the_prediction_does_not_depend_on_the_level_of_the_recording(engine: Engine) -> None:
    for _, path in ALL_VOICES[::3]:
        samples = read_audio(path)
        np.testing.assert_allclose(predict(engine, samples * 0.2), predict(engine, samples), atol=0.05)


def test_the_prediction_for_a_piece_does_not_depend_on_its_neighbours_or_its_padding(engine: Engine) -> None:
    pieces = [voice_features(track_pitch(read_audio(path)))[:PIECE_FRAMES] for _, path in ALL_VOICES[:5]]
    features, mask = stack_pieces(pieces)
    together = engine.infer({"features": features, "mask": mask})["logits"]
    for row, piece in enumerate(pieces):
        one, its_mask = stack_pieces([piece])
        alone = engine.infer({"features": one, "mask": its_mask})["logits"][0]
        np.testing.assert_allclose(alone, together[row], atol=1e-4)


def test_missing_recordings_are_an_error(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("data") / "emodb"
    folder.mkdir()
    (folder / "index.csv").write_text("file,speaker,gender,emotion\na.flac,03,m,anger\n")
    with pytest.raises(FileNotFoundError, match="originals are not there"):
        emodb(folder.parent)


def test_the_card_shows_the_temperature_and_version_that_ship(engine: Engine) -> None:
    card = (FOLDER / "card.md").read_text(encoding="utf-8")
    spec = json.loads((FOLDER / "model.json").read_text())
    assert f"temperature {spec['temperature']:.2f}" in card
    assert "estimate of expression" in card
    assert engine.spec.id in card
