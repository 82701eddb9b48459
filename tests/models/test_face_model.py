"""The shipped face model fits its model.json; the split and the figures are as the card describes."""

import json
from pathlib import Path

import numpy as np
import pytest

from kernels.calibration import expected_calibration_error, softmax
from kernels.emotions import SEVEN
from kernels.engines import MODELS, Engine, load, read_spec
from kernels.face.crop import FAULTS, Fault, Square, crop, quality, trust
from models import figures
from models.face_affect import evaluate
from models.face_affect.recipe import augment, calibrate, split, spoil
from streamer.errors import ModelError
from tests.faces import portrait

FOLDER = MODELS / "face_affect"
LARGEST_MODEL_BYTES = 8_000_000
SMILE = crop(portrait(), Square(98, 76, 126))


@pytest.fixture(scope="module")
def engine() -> Engine:
    return load("face_affect", threads=1)


def probabilities(engine: Engine, *faces: np.ndarray) -> np.ndarray:
    return softmax(engine.infer({"faces": np.stack(faces)[:, None]})["logits"], engine.spec.temperature)


def test_the_folder_has_the_files_of_a_model_folder() -> None:
    names = {path.name for path in FOLDER.iterdir()}
    assert {"card.md", "LICENSE", "NOTICE", "model.onnx", "model.json", "test_log.jsonl"} <= names
    assert read_spec("face_affect").licence == "unsettled"
    assert (FOLDER / "model.onnx").stat().st_size <= LARGEST_MODEL_BYTES


def test_the_spec_names_seven_emotions_and_a_prior_over_them() -> None:
    spec = read_spec("face_affect")
    assert tuple(spec.labels) == tuple(spec.prior) == SEVEN
    assert sum(spec.prior.values()) == pytest.approx(1.0, abs=1e-4)
    assert min(spec.prior.values()) > 0
    assert 0.25 < spec.temperature < 4


def test_outputs_have_the_shapes_of_the_spec(engine: Engine) -> None:
    for n in (1, 5):
        outputs = engine.infer({"faces": np.repeat(SMILE[None, None], n, axis=0)})
        assert outputs["logits"].shape == (n, len(SEVEN))
        assert outputs["embedding"].shape == (n, engine.spec.embedding_width) == (n, 256)
        assert all(np.isfinite(array).all() for array in outputs.values())


def test_weights_keep_to_seven_bits_so_that_no_processor_overflows() -> None:
    import openvino as ov

    constants = [
        node for node in ov.Core().read_model(FOLDER / "model.onnx").get_ops() if node.get_type_name() == "Constant"
    ]
    weights = [node.get_data() for node in constants if node.get_element_type() == ov.Type.i8]
    assert len(weights) > 5
    assert max(int(np.abs(w.astype(int)).max()) for w in weights) <= 64


def test_a_mirrored_face_reads_the_same(engine: Engine) -> None:
    one, other = probabilities(engine, SMILE, SMILE[:, ::-1])
    assert one == pytest.approx(other, abs=0.01)


def test_light_and_contrast_change_little(engine: Engine) -> None:
    for changed in (SMILE * 0.5, SMILE * 0.6 + 80):
        one, other = probabilities(engine, SMILE, changed.astype(np.float32))
        assert np.abs(one - other).max() < 0.05


def test_a_face_is_read_alike_in_any_batch(engine: Engine) -> None:
    faces = [SMILE, np.roll(SMILE, 3, 1), SMILE[::-1].copy()]
    together = probabilities(engine, *faces)
    assert together == pytest.approx(np.concatenate([probabilities(engine, face) for face in faces]), abs=0.01)


def test_a_box_a_little_off_still_shows_the_smile(engine: Engine) -> None:
    for square in (Square(104, 82, 126), Square(90, 70, 140), Square(106, 86, 112)):
        (p,) = probabilities(engine, crop(portrait(), square))
        assert SEVEN[int(p.argmax())] == "happiness"


def test_a_flat_picture_is_no_error(engine: Engine) -> None:
    assert np.isfinite(probabilities(engine, np.zeros((48, 48), np.float32))).all()


def test_each_line_of_the_test_log_has_a_date_a_commit_and_figures() -> None:
    entries = [json.loads(line) for line in (FOLDER / "test_log.jsonl").read_text(encoding="utf-8").splitlines()]
    assert entries
    assert all({"date", "commit", "figures"} <= set(entry) for entry in entries)


def test_the_stated_figures_are_those_of_the_last_line_of_the_test_log() -> None:
    last = json.loads((FOLDER / "test_log.jsonl").read_text(encoding="utf-8").splitlines()[-1])["figures"]
    assert {figure.name: figure.value for figure in figures.read(FOLDER)} == pytest.approx(last, abs=1e-4)


def test_a_single_vote_is_an_outlier() -> None:
    votes = np.array([[5, 1, 4, 0, 0, 0, 0, 0, 0, 0], [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]], np.float32)
    soft = split.soft_votes(votes)
    assert soft[0].tolist() == pytest.approx([5 / 9, 0, 4 / 9, 0, 0, 0, 0])
    assert soft[1].sum() == 0


def test_a_majority_is_more_than_half_of_the_votes_once_single_ones_are_dropped() -> None:
    votes = np.zeros((6, 10), np.float32)
    votes[0, [0, 1, 2, 3, 4, 5]] = 5, 1, 1, 1, 1, 1
    votes[1, [0, 1]] = 5, 5
    votes[2, [7, 0]] = 6, 4  # contempt
    votes[3, [9, 0]] = 6, 4  # no face
    votes[4, [4, 0, 8]] = 4, 3, 2
    votes[5, [4, 0, 8]] = 5, 2, 2
    assert split.majorities(votes).tolist() == [0, -1, -1, -1, -1, 4]


def write_fer2013(folder: Path) -> np.ndarray:
    """A small FER2013: 400 Training pictures, 20 of each test set, with copies planted; returns the pictures."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 255, (440, 6, 6), dtype=np.uint8)
    images = np.kron(coarse, np.ones((8, 8), np.uint8))
    images[1] = images[0]
    images[2] = (images[0] * 0.9 + 5).astype(np.uint8)
    images[400] = images[10]
    images[420] = (images[20] * 0.8 + 3).astype(np.uint8)
    (folder / "fer2013").mkdir()
    np.savez(folder / "fer2013" / "fer2013_images.npz", images=images)
    usage = ["Training"] * 400 + ["PublicTest"] * 20 + ["PrivateTest"] * 20
    votes = "neutral,happiness,surprise,sadness,anger,disgust,fear,contempt,unknown,NF"
    lines = [f"row,file,usage,{votes},fer_label,dup_of_training"]
    lines += [f"{n},f{n}.png,{use},0,8,2,0,0,0,0,0,0,0,happy,False" for n, use in enumerate(usage)]
    (folder / "fer2013" / "fer2013_labels.csv").write_text("\n".join(lines) + "\n")
    return images


def test_copies_stay_together_and_nothing_of_a_test_set_is_trained_on(tmp_path: Path) -> None:
    write_fer2013(tmp_path)
    faces = split.load(tmp_path)
    assert len({str(part) for part in faces.part[:3]}) == 1
    assert faces.part[10] == faces.part[20] == "excluded"
    assert faces.leaked.nonzero()[0].tolist() == [400]
    assert faces.copied.nonzero()[0].tolist() == [400, 420]
    assert set(faces.part[400:420]) == {"public"}
    assert set(faces.part[420:]) == {"private"}


def test_a_tenth_is_held_out_in_two_halves_by_the_pictures_alone(tmp_path: Path) -> None:
    write_fer2013(tmp_path)
    faces = split.load(tmp_path)
    held_out = {part: len(faces.where(part)) for part in ("held_a", "held_b")}
    assert 20 <= sum(held_out.values()) <= 60
    assert min(held_out.values()) >= 5
    assert split.load(tmp_path).part.tolist() == faces.part.tolist()


def test_an_augmented_face_keeps_its_shape_and_depends_on_the_seed_alone() -> None:
    face = SMILE.astype(np.uint8)
    for seed in range(30):
        one, other = (augment.augment(face, np.random.default_rng(seed)) for _ in range(2))
        assert one.shape == (48, 48)
        assert one.dtype == np.uint8
        assert np.array_equal(one, other)


def test_a_picture_that_was_trained_on_or_a_copy_of_one_is_not_judged(tmp_path: Path) -> None:
    write_fer2013(tmp_path)
    faces = split.load(tmp_path)
    trained = faces.where("train")[3]
    evaluate.refuse_trained(faces, faces.where("private"))
    with pytest.raises(ModelError, match=rf"row {trained} .* trained on"):
        evaluate.refuse_trained(faces, np.array([trained]))
    faces.images[faces.where("private")[5]] = faces.images[trained]
    with pytest.raises(ModelError, match=f"row {faces.where('private')[5]} "):
        evaluate.refuse_trained(faces, faces.where("private"))


@pytest.mark.parametrize(("kind", "measure"), [("small", "size"), ("blurred", "blur"), ("burnt_out", "clipped")])
def test_a_spoiled_face_has_a_lower_quality_and_is_trusted_less(kind: str, measure: str) -> None:
    face = SMILE.astype(np.uint8)
    rng = np.random.default_rng(0)
    harmless, hopeless = (quality(*spoil.spoil(face, kind, level, rng)) for level in (0.0, 1.0))
    fault = FAULTS[measure]
    assert abs(hopeless[measure] - fault.hopeless) < abs(harmless[measure] - fault.hopeless)
    assert trust(hopeless) < trust(harmless) == 1.0


def test_a_spoiled_face_depends_on_the_seed_alone() -> None:
    for kind in spoil.KINDS:
        one, other = (spoil.spoil(SMILE.astype(np.uint8), kind, 0.7, np.random.default_rng(3)) for _ in range(2))
        assert np.array_equal(one[0], other[0])
        assert one[0].shape == (48, 48)
        assert one[1] == other[1]


def test_the_lines_of_the_gate_are_found_again_where_confidence_was_made_to_follow_them() -> None:
    rng = np.random.default_rng(0)
    n, line = 6_000, Fault(0.9, 1.0, 0.4)
    p = rng.dirichlet(np.full(7, 0.3), n)
    measured = {"size": np.full(n, 128.0), "clipped": np.zeros(n), "blur": rng.uniform(0.8, 1.0, n)}
    sure = 1 / 7 + line.factors(measured["blur"]) * (p.max(1) - 1 / 7)
    truth = np.where(rng.random(n) < sure, p.argmax(1), (p.argmax(1) + 1) % 7)
    spoiled = calibrate.Spoiled(np.full(n, "blurred"), p, truth, measured)
    found = calibrate.fitted_faults(spoiled)
    assert set(found) == {"blur"}
    assert found["blur"].factors(np.array([0.85, 0.9, 0.95, 1.0])) == pytest.approx([1, 1, 0.7, 0.4], abs=0.12)
    gated, ungated = spoiled.confidence(found), spoiled.confidence({})
    right = spoiled.right
    assert expected_calibration_error(gated, right) < 0.03 < expected_calibration_error(ungated, right)


def test_every_seed_has_a_class_for_every_picture_of_private_test() -> None:
    predicted, seeds = evaluate.read_seeds()
    assert len(seeds) == 3
    assert len(predicted) > 3500
    assert all(len(classes) == len(seeds) for classes in predicted.values())
