"""The shipped text models fit their model.json; the split and the scores are as the cards describe."""

from pathlib import Path
from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels.calibration import softmax
from kernels.emotions import EMOTIONS, GOEMOTIONS_TO_EMOTION, SEVEN
from kernels.engines import MODELS, load, read_spec
from kernels.text.tokens import MAX_CHARACTERS, TextTokens
from models.text_affect.recipe import calibrate, elsewhere, scores, split
from models.text_affect.recipe.encode import Encoder
from models.text_affect.recipe.swap import PRONOUNS, TEMPLATES, swap
from models.text_vad.evaluate import pearson, r_squared
from streamer.errors import ModelError

TOKENIZER = MODELS / "text_affect" / "tokenizer.json"
LINES = ["thank you so much", "no", "I can't believe they did that to him, it is disgusting and I am angry", "ok 👍"]
LARGEST_MODEL_BYTES = 25_000_000


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return Encoder(threads=1)


def test_each_folder_has_the_files_of_a_model_folder() -> None:
    for name, licence in (("text_affect", "free"), ("text_vad", "share_alike")):
        assert {"card.md", "LICENSE", "NOTICE", "model.onnx", "model.json"} <= {
            p.name for p in (MODELS / name).iterdir()
        }
        assert read_spec(name).licence == licence
    assert (MODELS / "text_affect" / "model.onnx").stat().st_size <= LARGEST_MODEL_BYTES


def test_the_spec_names_the_nine_emotions_and_a_prior_over_them() -> None:
    spec = read_spec("text_affect")
    assert tuple(spec.labels) == EMOTIONS
    assert tuple(spec.prior) == EMOTIONS
    assert sum(spec.prior.values()) == pytest.approx(1.0, abs=1e-4)
    assert min(spec.prior.values()) > 0
    assert spec.input["goemotions"] == list(split.GOEMOTIONS_LABELS)


def test_the_head_was_fitted_on_the_encoder_that_ships_beside_it() -> None:
    assert read_spec("text_vad").input["of_sha256"] == read_spec("text_affect").sha256


def test_outputs_have_the_shapes_of_the_spec(encoder: Encoder) -> None:
    outputs = encoder.outputs(LINES)
    shapes = {name: array.shape for name, array in outputs.items()}
    assert shapes == {"logits": (4, 9), "goemotions": (4, 28), "embedding": (4, 384), "layers": (4, 2688)}
    assert all(array.dtype == np.float32 and np.isfinite(array).all() for array in outputs.values())
    assert np.array_equal(outputs["layers"][:, -384:], outputs["embedding"])
    assert load("text_vad").infer({"layers": outputs["layers"]})["vad"].shape == (4, 3)


def test_padding_changes_nothing_that_matters(encoder: Encoder) -> None:
    together = softmax(encoder.outputs(LINES)["logits"])
    alone = np.concatenate([softmax(encoder.outputs([line])["logits"]) for line in LINES])
    assert np.abs(together - alone).max() < 1e-2


@pytest.mark.parametrize(
    ("emotion", "lines"),
    [
        ("happiness", ["😂😂😂", "❤️", "<3", "😊", ":)", "xD", "🎉", "KEKW", "I did it 🥳", "🥰"]),
        ("sadness", ["😭😭😭", "😢", ":(", ":'(", "💔", "(ಥ﹏ಥ)", "nobody came ☹️"]),
        ("anger", ["😡", "🤬", ">:(", "(╯°□°)╯︵ ┻━┻", "🙄"]),
        ("fear", ["😱", "😨", "monkaS"]),
        ("surprise", ["😮", "🤯"]),
        ("disgust", ["🤢", "🤮"]),
    ],
)
def test_signs_are_read_as_what_people_mean_by_them(encoder: Encoder, emotion: str, lines: list[str]) -> None:
    p = softmax(encoder.outputs(lines)["logits"])
    assert {line: EMOTIONS[row.argmax()] for line, row in zip(lines, p, strict=True)} == dict.fromkeys(lines, emotion)


@pytest.mark.parametrize("typed", ["[SEP]", "[PAD] [PAD]", "[CLS]", "[MASK] me", "[UNK]"])
def test_what_a_person_types_is_never_a_special_token(typed: str) -> None:
    tokens = TextTokens(TOKENIZER, max_tokens=32).encode([f"I hate you {typed}"])
    row = tokens.input_ids[0, : int(tokens.counts[0])].tolist()
    assert (row[0], row[-1]) == (101, 102)
    assert not {0, 100, 101, 102, 103} & set(row[1:-1])


@settings(deadline=None)  # reading tokenizer.json takes as long as the machine is busy
@given(st.lists(st.text(max_size=300), min_size=1, max_size=5), st.integers(8, 64))
def test_any_text_becomes_a_batch_no_wider_than_the_limit(texts: list[str], max_tokens: int) -> None:
    tokens = TextTokens(TOKENIZER, max_tokens=max_tokens).encode(texts)
    assert tokens.input_ids.shape == tokens.attention_mask.shape
    assert tokens.input_ids.shape[0] == len(texts)
    assert tokens.input_ids.shape[1] <= max_tokens
    lengths = tokens.attention_mask.sum(axis=1)
    assert (lengths == np.minimum(tokens.counts, max_tokens)).all()
    assert (tokens.truncated == (tokens.counts > max_tokens)).all()
    assert ((tokens.unknown >= 0) & (tokens.unknown <= 1)).all()
    closing = tokens.input_ids[np.arange(len(texts)), lengths - 1]
    assert len(set(closing.tolist())) == 1


def test_a_text_beyond_the_character_limit_is_marked_as_cut() -> None:
    assert TextTokens(TOKENIZER, max_tokens=512).encode([" " * MAX_CHARACTERS + "hello"]).truncated.all()


@given(st.text(max_size=80))
def test_copies_of_a_text_fall_on_the_same_side_of_the_split(text: str) -> None:
    assert split.held_out(text) == split.held_out(f"  {text.replace(' ', '  ')} ")


def test_about_a_tenth_is_held_out_in_two_even_halves() -> None:
    halves = [split.held_out(f"comment number {at}") for at in range(20_000)]
    assert halves.count("A") / len(halves) == pytest.approx(0.05, abs=0.006)
    assert halves.count("B") / len(halves) == pytest.approx(0.05, abs=0.006)


def test_labels_share_a_comment_evenly_among_their_emotions() -> None:
    joy, desire, love = (split.GOEMOTIONS_LABELS.index(name) for name in ("joy", "desire", "love"))
    (row,) = split.emotion_targets([split.Comment("", (joy, desire))])
    assert (row[EMOTIONS.index("happiness")], row[EMOTIONS.index("anticipation")]) == (0.5, 0.5)
    (same,) = split.emotion_targets([split.Comment("", (joy, love))])
    assert same[EMOTIONS.index("happiness")] == 1.0


def test_the_label_map_covers_the_data_sets_labels_in_their_order(tmp_path: Path) -> None:
    assert (split.GOEMOTIONS_LABELS[0], split.GOEMOTIONS_LABELS[-1]) == ("admiration", "neutral")
    assert set(GOEMOTIONS_TO_EMOTION.values()) == set(EMOTIONS)
    folder = tmp_path / "goemotions" / "data" / "original"
    folder.mkdir(parents=True)
    (folder / "dev.tsv").write_text('He said "no\t3,27\tabc\nfine\t27\tdef\n', encoding="utf-8")
    assert split.read(tmp_path, "dev") == [split.Comment('He said "no', (3, 27)), split.Comment("fine", (27,))]


def test_seven_class_truth_folds_trust_and_anticipation_into_happiness() -> None:
    names = ("admiration", "optimism", "grief")
    truth = scores.seven_truth([split.Comment("", (split.GOEMOTIONS_LABELS.index(name),)) for name in names])
    assert [SEVEN[int(row.argmax())] for row in truth] == ["happiness", "happiness", "sadness"]
    certain = np.zeros((1, 28))
    certain[0, split.GOEMOTIONS_LABELS.index("caring")] = 1.0
    assert scores.seven_from_labels(certain)[0, SEVEN.index("happiness")] == 1.0


def test_the_encoder_is_not_judged_on_what_it_was_trained_on(tmp_path: Path) -> None:
    folder = tmp_path / "goemotions" / "data" / "original"
    folder.mkdir(parents=True)
    texts = [f"comment number {at}" for at in range(40)]
    trained = [text for text in texts if split.held_out(text) is None]
    for part, rows in (("train", texts), ("dev", ["something else", trained[1]]), ("test", ["a new line"])):
        (folder / f"{part}.tsv").write_text("".join(f"{row}\t27\tid\n" for row in rows), encoding="utf-8")
    split.refuse_trained(tmp_path, split.read(tmp_path, "test") + split.read(tmp_path, "dev"))
    copy = split.Comment(f" {trained[0].upper()} ", (27,))
    with pytest.raises(ModelError, match="was trained on 1 of 2 comments"):
        split.refuse_trained(tmp_path, [copy, split.Comment("a new line", (27,))])


def test_predictions_are_mapped_to_the_labels_of_other_data_sets() -> None:
    p = np.zeros((3, len(EMOTIONS)))
    p[0, EMOTIONS.index("trust")], p[0, EMOTIONS.index("anger")], p[0, EMOTIONS.index("anticipation")] = 0.3, 0.4, 0.3
    p[1, EMOTIONS.index("fear")] = p[2, EMOTIONS.index("sadness")] = 1.0
    seven = elsewhere.top_of_seven(p)
    assert [SEVEN[at] for at in seven] == ["happiness", "fear", "sadness"]
    assert [elsewhere.EMOCONTEXT[at] for at in elsewhere.as_emocontext(seven)] == ["happy", "others", "sad"]


def test_meld_and_emocontext_are_scored_by_their_measures() -> None:
    truth, guess = np.array([0, 0, 1, 3, 3]), np.array([0, 3, 3, 3, 2])
    assert elsewhere.micro_f1(truth, guess) == pytest.approx(2 * 1 / (3 + 2))
    assert elsewhere.weighted_f1(truth, guess, 4) == pytest.approx(0.4 * (2 / 3) + 0.4 * (2 / 5))


def test_swapped_people_change_the_prediction_of_a_model_that_follows_names() -> None:
    class FollowsNames:
        engine = SimpleNamespace(spec=SimpleNamespace(temperature=1.0))

        def outputs(self, texts: list[str]) -> dict[str, np.ndarray]:
            return {"logits": np.array([[9.0, 0.0] if "Brad" in text else [0.0, 9.0] for text in texts])}

    found = swap(cast("Encoder", FollowsNames()))
    assert found.lines == len(TEMPLATES) * 24 * len(PRONOUNS)
    assert found.worst > 0.99  # noqa: PLR2004
    pairs_with_brad = 3 * 69 / (72 * 71 / 2)
    assert found.changed == pytest.approx(pairs_with_brad)
    assert found.by_group["english"] > 4 * found.by_group["indian"]
    assert found.by_group["she"] < 1e-9  # noqa: PLR2004


def test_every_swap_line_names_the_person_and_refers_to_them() -> None:
    assert all("{name}" in line and "{pronoun}" in line for line in TEMPLATES)
    assert len(TEMPLATES) == 3 * len(EMOTIONS)


def test_a_row_that_reaches_no_threshold_gets_the_nearest_label() -> None:
    guess = scores.labels_above(np.array([[0.2, 0.3], [0.9, 0.1]]), np.array([0.25, 0.5]))
    assert guess.tolist() == [[True, False], [True, False]]


def test_r_squared_and_pearson_agree_with_their_definitions() -> None:
    truth = np.array([[0.0], [1.0], [2.0]])
    assert r_squared(truth, truth) == pytest.approx([1.0])
    assert r_squared(truth, np.ones_like(truth)) == pytest.approx([0.0])
    assert pearson(truth, 5 - 2 * truth) == pytest.approx([-1.0])


def test_a_temperature_and_biases_that_spoilt_the_probabilities_are_found_again() -> None:
    random = np.random.default_rng(0)
    logits, bias = random.normal(size=(20_000, 4)) * 2.0, np.array([0.5, -0.5, 0.2, -0.2])
    truth = np.eye(4)[(softmax(logits).cumsum(axis=1) < random.random((20_000, 1))).sum(axis=1)]
    found = calibrate.fit(logits * 1.7 - bias, truth)
    assert found.temperature == pytest.approx(1.7, rel=0.03)
    assert np.abs(found.bias - found.bias.mean() - bias).max() < 0.1  # noqa: PLR2004
