"""The shipped intent head fits its model.json; lines, folds, directions and scores are as the card describes."""

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from kernels.calibration import softmax
from kernels.engines import MODELS, load, read_spec
from kernels.intents import INTENTS, NONE
from models.text_intent import evaluate
from models.text_intent.recipe import clinc, corpus, discriminant, rejects, scores, templates
from models.text_intent.recipe.scaling import matrix_scaling, with_nearness
from models.text_intent.recipe.templates import Line
from streamer.errors import ModelError

LARGEST_HEAD_BYTES = 6_000_000


def test_the_folder_has_the_files_of_a_model_folder() -> None:
    folder = MODELS / "text_intent"
    wanted = {"card.md", "LICENSE", "NOTICE", "model.onnx", "model.json", "test_lines.tsv"}
    assert wanted <= {path.name for path in folder.iterdir()}
    assert (folder / "model.onnx").stat().st_size <= LARGEST_HEAD_BYTES


def test_the_spec_names_the_ten_intents_a_prior_over_them_and_the_encoder_beside_it() -> None:
    spec = read_spec("text_intent")
    assert tuple(spec.labels) == tuple(spec.prior) == INTENTS
    assert sum(spec.prior.values()) == pytest.approx(1.0, abs=1e-4)
    assert spec.licence == "free"
    assert spec.input["of_sha256"] == read_spec("text_affect").sha256
    assert 0 <= spec.input["none_below"] < 1


def test_a_line_gets_the_same_probabilities_alone_and_in_a_batch() -> None:
    lines = [
        "please stop showing me horror",
        "the weather is nice",
        "ok",
        "can you save this song to my list for later",
    ]
    together = evaluate.probabilities(lines)
    alone = np.concatenate([evaluate.probabilities([line]) for line in lines])
    assert together.sum(axis=1) == pytest.approx([1.0] * len(lines))
    assert np.abs(together - alone).max() < 0.02  # noqa: PLR2004 - the encoder's batches differ by as much


def test_unambiguous_lines_get_their_intent() -> None:
    lines = {
        "please save this song to my playlist": "save_or_share",
        "goodbye, see you tomorrow": "leave",
        "show me more like this": "more_like_this",
        "I had soup for lunch.": NONE,
    }
    p = evaluate.probabilities(list(lines))
    assert [INTENTS[at] for at in p.argmax(axis=1)] == list(lines.values())


def test_the_head_has_no_length_to_divide_by_zero() -> None:
    logits = load("text_intent").infer({"layers": np.zeros((1, 2688), np.float32)})["logits"]
    assert np.isfinite(softmax(logits)).all()


def test_the_test_lines_are_three_hundred_half_of_them_none_and_no_two_alike() -> None:
    judged = evaluate.read_test()
    counts = Counter(INTENTS[at] for at in judged.truth)
    assert (len(judged.texts), len(set(judged.texts)), counts[NONE]) == (300, 300, 150)
    assert {counts[intent] for intent in INTENTS if intent != NONE} == {16, 17}


def test_templates_expand_alike_for_one_seed_and_leave_no_slot_open() -> None:
    read = templates.read()
    lines = templates.lines(read, seed=3, per_family=8)
    assert lines == templates.lines(read, seed=3, per_family=8)
    assert lines != templates.lines(read, seed=4, per_family=8)
    assert not [line for line in lines if set(line.text) & set("{}|")]
    assert {line.intent for line in lines} == set(INTENTS)


@pytest.mark.parametrize("text", ["[shout loudly]\nhey", "hey", "[leave bye]\n{nobody}"])
def test_a_template_file_with_a_mistake_names_its_line(tmp_path: Path, text: str) -> None:
    path = tmp_path / "templates.txt"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=r"templates\.txt:\d"):
        templates.read(path)


def test_no_family_is_in_two_folds() -> None:
    lines = templates.lines(templates.read(), per_family=4)
    folds = corpus.folds(lines)
    assert set(folds) == set(range(corpus.FOLDS))
    for family in {line.family for line in lines}:
        assert len({fold for fold, line in zip(folds, lines, strict=True) if line.family == family}) == 1


def test_every_intent_weighs_its_prior_whatever_its_lines() -> None:
    lines = [Line("a", NONE, "none x"), Line("b", NONE, "clinc"), Line("c", NONE, "goemotions")]
    lines += [Line(str(at), intent, f"{intent} x") for intent in INTENTS[:9] for at in range(len(intent))]
    weight = corpus.weights(lines)
    for intent in INTENTS:
        total = sum(w for w, line in zip(weight, lines, strict=True) if line.intent == intent)
        assert total / weight.sum() == pytest.approx(corpus.PRIOR[intent])


def test_clinc_questions_become_intents_none_or_nothing() -> None:
    expected = {
        ("skip this song", "next_song"): "change",
        ("turn the volume down", "change_volume"): "calm_down",
        ("turn the volume up", "change_volume"): NONE,
        ("set the volume to 4", "change_volume"): None,
        ("stop whispering", "whisper_mode"): None,
        ("cancel that", "cancel"): None,
        ("what is my balance", "balance"): NONE,
        ("how tall is everest", clinc.OUT_OF_SCOPE): NONE,
    }
    assert {q: clinc.intent_of(clinc.Question(*q)) for q in expected} == expected


def test_directions_separate_groups_that_noise_hides() -> None:
    random = np.random.default_rng(0)
    group = np.arange(600) % 3
    features = random.normal(size=(600, 12)).astype(np.float32)
    features[:, 0] *= 100.0  # large, and without information
    features[:, 1] += 4.0 * (group == 1)
    features[:, 2] += 4.0 * (group == 2)  # noqa: PLR2004
    found = discriminant.directions(discriminant.scatter(features, group.astype(np.int64)), 1e-6)
    u = found.coordinates(features)
    assert np.linalg.norm(u, axis=1) == pytest.approx(np.ones(600))
    assert ((u @ found.prototypes.T).argmax(axis=1) == group).mean() > 0.9  # noqa: PLR2004
    assert np.abs(found.matrix[0]).max() < 0.05 * np.abs(found.matrix[1:3]).max()


def test_matrix_scaling_finds_the_scale_that_probabilities_need() -> None:
    random = np.random.default_rng(0)
    logits = random.normal(size=(4000, 3)) * 2.0
    truth = (softmax(logits).cumsum(axis=1) < random.random((4000, 1))).sum(axis=1)
    matrix, offset = matrix_scaling(logits * 7.0 + 3.0, truth, np.ones(4000))
    assert np.abs(softmax((logits * 7.0 + 3.0) @ matrix + offset) - softmax(logits)).mean() < 0.02  # noqa: PLR2004


def test_scaling_can_use_that_scores_are_more_reliable_for_near_lines() -> None:
    random = np.random.default_rng(0)
    scores_, near = random.normal(size=(6000, 3)), random.random(6000)
    logits = scores_ * (0.5 + 3.0 * near[:, None])
    truth = (softmax(logits).cumsum(axis=1) < random.random((6000, 1))).sum(axis=1)
    x = with_nearness(scores_, near)
    matrix, offset = matrix_scaling(x, truth, np.ones(6000), classes=3)
    assert matrix.shape == (7, 3)
    assert np.abs(softmax(x @ matrix + offset) - softmax(logits)).mean() < 0.02  # noqa: PLR2004


def test_scores_of_a_small_example() -> None:
    none, leave = INTENTS.index(NONE), INTENTS.index("leave")
    p = np.full((3, 10), 0.01)
    p[0, leave], p[1, leave], p[2, none] = 0.91, 0.5, 0.9
    p[1, none] = 0.42
    truth, even = np.array([leave, none, none]), np.ones(3)
    assert scores.name_all(p, 0.6).tolist() == [leave, none, none]
    assert scores.f1_by_class(truth, scores.name_all(p, 0.0), even)[[leave, none]] == pytest.approx([2 / 3, 2 / 3])
    assert scores.choose_threshold(p, truth, even) == pytest.approx(0.55)


def test_a_rejected_question_counts_as_wrong_in_scope_and_right_out_of_it() -> None:
    named = rejects.Named(
        np.array(["a", "a", "b", "a"]), np.array([0.9, 0.4, 0.8, 0.3]), np.array(["a", "a", "a", "oos"])
    )
    assert (named.in_scope(-1.0), named.in_scope(0.5)) == pytest.approx((2 / 3, 1 / 3))
    assert (named.rejected(0.2), named.rejected(0.5)) == (0.0, 1.0)
    assert named.at(np.array([1])).in_scope(0.5) == 0.0


def test_questions_are_classified_by_the_mean_of_their_nearest_neighbours() -> None:
    random = np.random.default_rng(0)
    corners = np.eye(6, 20) * 6.0
    corner = np.repeat(np.arange(6), 20)
    features = (corners[corner] + random.normal(size=(120, 20))).astype(np.float32)
    labels = np.array(["a", "b", "c", "c", "a", "b"])[corner]
    train = rejects.Part(np.concatenate([features, features[:5] * 0]), np.concatenate([labels, ["oos"] * 5]))
    asked = np.concatenate([corners, corners[:1] + corners[1:2]]).astype(np.float32)
    examples = rejects.Examples.of(train)
    assert examples.classes.tolist() == ["a", "b", "c"]
    for named in examples.name(rejects.Part(asked, np.array([*"abccab", "oos"])), 1.0, (1, 3)):
        assert named.in_scope(-1.0) == 1.0
        assert named.truth[-1] == "oos"
    cosines = np.array([[0.1, 0.9, 0.5], [0.2, 0.2, -1.0]], np.float32)
    assert rejects.mean_of_largest(cosines, 2) == pytest.approx([0.7, 0.2])


def test_the_threshold_is_the_highest_with_the_required_accuracy() -> None:
    right = np.array(["a"] * 1000)
    named = rejects.Named(right, np.linspace(0.0, 1.0, 1000), right)
    assert named.in_scope(rejects.highest(named)) == pytest.approx(0.955)
    with pytest.raises(ValueError, match=r"0\.0000 are right"):
        rejects.highest(named._replace(guess=np.array(["b"] * 1000)))


def test_the_head_is_not_judged_on_what_it_was_fitted_on(tmp_path: Path) -> None:
    for name, rows in {"train": ["play it", "ok"], "dev": ["so"], "test": ["there"]}.items():
        folder = tmp_path / "goemotions" / "data" / "original"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{name}.tsv").write_text("".join(f"{row}\t27\tid\n" for row in rows), encoding="utf-8")
    splits = {"train": [["skip this song", "next_song"]], "oos_train": [], "val": [["skip this song", "next_song"]]}
    splits |= {"oos_val": [["how tall is everest", "oos"]]}
    (tmp_path / "clinc150" / "data").mkdir(parents=True)
    (tmp_path / "clinc150" / "data" / "data_full.json").write_text(json.dumps(splits), encoding="utf-8")
    dev = evaluate.read_dev(tmp_path)
    assert dev.texts == ["how tall is everest"]
    evaluate.refuse_trained(tmp_path, dev.texts)
    with pytest.raises(ModelError, match="trained on 1 of these lines, 'skip this song'"):
        evaluate.refuse_trained(tmp_path, ["skip this song", "something new"])


def test_copies_are_recognised_by_their_words() -> None:
    assert evaluate.plain("Don't STOP, now!") == evaluate.plain("dont stop now")
