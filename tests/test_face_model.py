"""The shipped face model keeps its files' promises; the split and the figures do what the card says."""

import json
from pathlib import Path

import numpy as np
import pytest

from kernels.calibration import softmax
from kernels.emotions import SEVEN
from kernels.engines import MODELS, Engine, load, read_spec
from kernels.face import Square, crop
from models.face_affect import augment, evaluate, split
from tests.faces import portrait

FOLDER = MODELS / "face_affect"
LARGEST_MODEL_BYTES = 8_000_000
SMILE = crop(portrait(), Square(98, 76, 126))


@pytest.fixture(scope="module")
def engine() -> Engine:
    return load("face_affect", threads=1)


def probabilities(engine: Engine, *faces: np.ndarray) -> np.ndarray:
    return softmax(engine.infer({"faces": np.stack(faces)[:, None]})["logits"], engine.spec.temperature)


def test_the_folder_carries_what_a_model_folder_must() -> None:
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


def test_each_look_at_the_test_split_left_a_trace() -> None:
    looks = [json.loads(line) for line in (FOLDER / "test_log.jsonl").read_text(encoding="utf-8").splitlines()]
    assert looks
    assert all({"date", "commit", "figures"} <= set(look) for look in looks)


def test_the_card_quotes_the_last_look() -> None:
    card = (FOLDER / "card.md").read_text(encoding="utf-8")
    last = json.loads((FOLDER / "test_log.jsonl").read_text(encoding="utf-8").splitlines()[-1])["figures"]
    for name in ("accuracy_plurality", "accuracy_majority", "accuracy_original", "ece_calibrated", "nll_calibrated"):
        assert f"{last[name]:.3f}".lstrip("0") in card, name


def test_macro_f1_is_the_mean_over_classes() -> None:
    truth = np.array([0, 0, 1, 1, 2, 3, 4, 5, 6])
    assert evaluate.macro_f1(truth, truth) == 1.0
    guess = truth.copy()
    guess[2] = 0
    assert evaluate.macro_f1(guess, truth) == pytest.approx((4 / 5 + 2 / 3 + 5) / 7)


def test_a_single_vote_is_an_outlier() -> None:
    votes = np.array([[5, 1, 4, 0, 0, 0, 0, 0, 0, 0], [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]], np.float32)
    soft = split.soft_votes(votes)
    assert soft[0].tolist() == pytest.approx([5 / 9, 0, 4 / 9, 0, 0, 0, 0])
    assert soft[1].sum() == 0


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
    held = {part: len(faces.where(part)) for part in ("held_a", "held_b")}
    assert 20 <= sum(held.values()) <= 60
    assert min(held.values()) >= 5
    assert split.load(tmp_path).part.tolist() == faces.part.tolist()


def test_an_augmented_face_keeps_its_shape_and_depends_on_the_seed_alone() -> None:
    face = SMILE.astype(np.uint8)
    for seed in range(30):
        one, other = (augment.augment(face, np.random.default_rng(seed)) for _ in range(2))
        assert one.shape == (48, 48)
        assert one.dtype == np.uint8
        assert np.array_equal(one, other)
