"""How items become an encoder's inputs, and its scores emotions: the same for training, calibration and serving."""

import re
from pathlib import Path
from typing import Any

import cv2
import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels import model_input
from kernels.calibration import fit_temperature, softmax
from kernels.engines import ModelFolderError, ModelSpec, read_spec
from kernels.face.crop import Square, crop_rgb, crop_rgb_reference
from kernels.face.jpeg import JpegError, decode_grey, decode_rgb, grey_of
from kernels.voice.speech import track_pitch
from tests.faces import jpeg, portrait

TINY = Path(__file__).parents[1] / "tiny_encoders"


def spec(**changes: Any) -> ModelSpec:
    fields: dict[str, Any] = {
        "name": "tiny", "version": "1", "modality": "face", "licence": "free", "sha256": "",
        "labels": ["happiness", "sadness"],
        "classes": {"joy": "happiness", "bored": None, "love": "happiness", "sad": "sadness"},
        **changes,
    }  # fmt: skip
    return ModelSpec(**fields)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("face_affect", model_input.FaceGreyCrop),
        ("voice_affect", model_input.LogMel),
        ("text_affect", model_input.WordPiece),
    ],
)
def test_shipped_models_have_their_input_format(name: str, kind: type) -> None:
    found = read_spec(name)
    readers = {"face": model_input.face_input, "voice": model_input.voice_input, "text": model_input.text_input}
    assert isinstance(readers[found.modality](found), kind)


def test_a_model_of_another_modality_or_input_format_is_refused_and_named() -> None:
    with pytest.raises(ModelFolderError, match="voice_affect@3 reads voice, not face"):
        model_input.face_input(read_spec("voice_affect"))
    with pytest.raises(ModelFolderError, match="framing"):
        model_input.face_input(spec(input={"framing": "x_ray"}))
    with pytest.raises(ModelFolderError, match="input"):
        model_input.face_input(spec(input={"framing": "image_rgb", "size": 64, "mean": [0.5], "std": [1, 1, 1]}))


def test_classes_of_one_emotion_add_up_and_those_without_one_are_left_out() -> None:
    logits = np.log(np.array([[0.2, 0.5, 0.1, 0.2]]))
    p, mapped_share = model_input.emotions(spec(), logits)
    assert p == pytest.approx(np.array([[0.6, 0.4]]))
    assert mapped_share == pytest.approx([0.5])


def test_a_class_of_several_emotions_is_divided_by_bayes() -> None:
    classes = {"angry": {"anger": 0.9, "fear": 0.6}, "calm": {"anger": 0.1, "fear": 0.4, "neutral": 1.0}, "hum": None}
    shared = spec(labels=["anger", "fear", "neutral"], classes=classes)
    p, mapped_share = model_input.emotions(shared, np.log(np.array([[0.4, 0.1, 0.5], [0.0001, 0.4999, 0.5]])))
    likelihood = np.array([0.8 * 0.9 + 0.2 * 0.1, 0.8 * 0.6 + 0.2 * 0.4, 0.2])
    assert p[0] == pytest.approx(likelihood / likelihood.sum())
    assert p[1].argmax() == 2
    assert p.sum(axis=1) == pytest.approx([1.0, 1.0])
    assert mapped_share == pytest.approx([0.5, 0.5])


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        (
            {"angry": {"anger": 0.9, "faer": 0.6}, "joy": "hapiness"},
            "classes name faer, hapiness; its labels are anger",
        ),
        ({"angry": {"anger": 1.5}}, "<= 1.0"),
        ({"angry": 3}, "Expected `str | object | null`"),
    ],
)
def test_classes_without_a_valid_label_or_share_are_refused(
    classes: dict[str, Any], message: str, tmp_path: Path
) -> None:
    good = msgspec.to_builtins(spec(name="wrong", labels=["anger", "fear"], classes={}))
    (tmp_path / "wrong").mkdir()
    (tmp_path / "wrong" / "model.json").write_bytes(msgspec.json.encode({**good, "classes": classes}))
    with pytest.raises(ModelFolderError, match=f"models/wrong/model.json: .*{re.escape(message)}"):
        read_spec("wrong", models=tmp_path)


def test_scores_far_from_every_emotion_still_give_a_distribution() -> None:
    p, mapped_share = model_input.emotions(spec(), np.array([[-900.0, 900.0, -901.0, -902.0]]))
    assert p.sum() == pytest.approx(1.0)
    assert mapped_share == pytest.approx([0.0])


def test_a_temperature_over_merged_classes_is_found_again() -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 6, (4000, 4))
    matrix = model_input.class_label_matrix(spec())
    mapped = matrix.any(axis=1)
    drawn = (softmax(logits[:, mapped], 2.5).cumsum(axis=1) < rng.random((4000, 1))).sum(axis=1)
    truth = matrix[mapped][drawn]
    assert fit_temperature(logits[:, mapped], truth, matrix[mapped]) == pytest.approx(2.5, rel=0.08)


@settings(deadline=None, max_examples=50)  # the first call loads OpenCV
@given(st.integers(1, 90), st.integers(-20, 60), st.integers(-20, 40), st.sampled_from([16, 48, 64]))
def test_a_colour_crop_is_what_its_reference_says(side: int, x: int, y: int, size: int) -> None:
    picture = np.random.default_rng(side).integers(0, 256, (50, 70, 3), dtype=np.uint8)
    square = Square(x, y, side)
    assert np.abs(crop_rgb(picture, square, size) - crop_rgb_reference(picture, square, size)).max() < 1e-3


def test_a_colour_crop_keeps_red_red_and_is_normalised() -> None:
    picture = np.zeros((40, 40, 3), np.uint8)
    picture[..., 0] = 255
    image_rgb = model_input.ImageRgb(size=16, mean=(0.5, 0.5, 0.0), std=(0.5, 0.25, 1.0))
    face = image_rgb.cut(picture, Square(4, 4, 30))
    assert face.shape == (3, 16, 16)
    assert face[:, 3, 3] == pytest.approx([1.0, -2.0, 0.0])
    ((rows, inputs),) = image_rgb.batches([face, face])
    assert rows == [0, 1]
    assert inputs["pixel_values"].shape == (2, 3, 16, 16)


def test_a_jpeg_in_colour_is_turned_and_its_grey_is_the_grey_one() -> None:
    grey, data = portrait(), jpeg(portrait())
    rgb = decode_rgb(data, width=320, height=240, rotation=90)
    assert rgb.shape == (320, 240, 3)
    assert np.abs(grey_of(rgb).astype(int) - decode_grey(data, width=320, height=240, rotation=90)).max() <= 2
    assert grey.shape == (240, 320)
    with pytest.raises(JpegError, match="the record says"):
        decode_rgb(data, width=321, height=240)


def test_a_red_jpeg_is_red() -> None:
    blue_green_red = np.zeros((16, 16, 3), np.uint8)
    blue_green_red[..., 2] = 250
    done, coded = cv2.imencode(".jpg", blue_green_red)
    assert done
    assert decode_rgb(coded.tobytes(), width=16, height=16)[8, 8].tolist() == pytest.approx([250, 0, 0], abs=6)


def test_clips_are_batched_by_length_without_padding_and_put_back_in_order() -> None:
    rng = np.random.default_rng(0)
    pieces = [track_pitch(rng.normal(0.2, 0.1, n).astype(np.float32)) for n in (16_000, 9600, 16_000)]
    batches = list(model_input.Waveform(mask="attention_mask").batches(pieces))
    assert [rows for rows, _ in batches] == [[1], [0, 2]]
    for _, inputs in batches:
        values = inputs["input_values"]
        assert values.mean(axis=1) == pytest.approx(np.zeros(len(values)), abs=1e-4)
        assert values.std(axis=1) == pytest.approx(np.ones(len(values)), abs=1e-3)
        assert inputs["attention_mask"].shape == values.shape
        assert inputs["attention_mask"].dtype == np.int64
    plain = list(model_input.Waveform(normalised=False).batches(pieces))
    assert np.array_equal(plain[0][1]["input_values"][0], pieces[1].samples)


def test_silence_stays_finite() -> None:
    ((_, inputs),) = model_input.Waveform().batches([track_pitch(np.zeros(16_000, np.float32))])
    assert np.isfinite(inputs["input_values"]).all()


def test_text_is_encoded_with_the_models_tokenizer_padding_and_emoji() -> None:
    wordpiece = model_input.WordPiece(
        positions=16, pad_id=7, emoji="as_is", inputs=("input_ids", "attention_mask", "token_type_ids")
    )
    tokens = wordpiece.tokens(TINY / "bert", 16).encode(["happy", "happy 😀 night music friend home work"])
    arrays = wordpiece.arrays(tokens)
    assert list(arrays) == ["input_ids", "attention_mask", "token_type_ids"]
    assert arrays["input_ids"][0, 3:].tolist() == [7] * (tokens.input_ids.shape[1] - 3)
    assert not arrays["token_type_ids"].any()
    assert tokens.unknown.tolist() == [0.0, pytest.approx(1 / 7)]
    spelled = msgspec.structs.replace(wordpiece, emoji="spelled_out").tokens(TINY / "bert", 16).encode(["😀"])
    assert tokens.counts[1] == 9
    assert spelled.counts[0] > 3


def test_more_tokens_than_a_model_can_take_are_refused() -> None:
    with pytest.raises(ModelFolderError, match="takes 16 tokens: say max_tokens: 16"):
        model_input.WordPiece(positions=16).tokens(TINY / "bert", 64)
