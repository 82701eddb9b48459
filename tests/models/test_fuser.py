"""The fuser: the fitted gates equal the kernel's fusion, and composed windows don't reveal the class."""

from collections.abc import Mapping

import numpy as np
import pytest

from kernels.emotions import EMOTIONS, SEVEN
from models.fuser import fusers
from models.fuser.compose import KINDS, MODALITIES, MOST, Items, Modality, compose

CLASSES: Mapping[Modality, tuple[str, ...]] = {
    "face": SEVEN,
    "voice": ("anger", "happiness", "neutral", "sadness"),
    "text": EMOTIONS,
}


def some_items(right: float = 0.7, seed: int = 0) -> dict[Modality, Items]:
    """Forty items a class, whose models give their class `right` on average."""
    rng, found = np.random.default_rng(seed), {}
    for m, names in CLASSES.items():
        labels = [k for k, name in enumerate(SEVEN) if name in names for _ in range(40)]
        p = np.full((len(labels), len(EMOTIONS)), np.nan)
        for row, label in enumerate(labels):
            shares = rng.dirichlet([0.5] * len(names)) * (1 - right)
            shares[names.index(SEVEN[label])] += right
            p[row, [EMOTIONS.index(n) for n in names]] = shares
        found[m] = Items(p, np.array(labels), {n: 1 / len(names) for n in names})
    return found


def test_windows_are_balanced_and_their_items_fit_their_kind() -> None:
    items = some_items()
    made = compose(items, 1400, 3)
    assert np.bincount(made.truth).tolist() == [200] * 7
    assert {k: int((made.kind == k).sum()) for k in set(KINDS)} == {"agree": 700, "conflict": 350, "missing": 350}
    for row in range(200):
        chosen = {m: made.chosen[m][row, 0] for m in MODALITIES}
        other = [
            m for m in ("face", "text") if chosen[m] >= 0 and items[m].label[chosen[m]] != made.truth[row]
        ]  # a class without voices has one of another class
        absent = [m for m in MODALITIES if chosen[m] < 0]
        assert len(absent) in ((1, 2) if made.kind[row] == "missing" else (0,))
        assert len(other) <= (made.kind[row] == "conflict")


def test_the_presence_of_a_modality_does_not_reveal_the_class() -> None:
    made = compose(some_items(), 2800, 4)
    present = made.chosen["voice"][:, 0] >= 0
    rates = [present[made.truth == k].mean() for k in range(len(SEVEN))]
    assert max(rates) - min(rates) < 0.1


def test_the_same_seed_makes_the_same_windows() -> None:
    one, two = compose(some_items(), 100, 5), compose(some_items(), 100, 5)
    assert all((one.chosen[m] == two.chosen[m]).all() and (one.weight[m] == two.weight[m]).all() for m in MODALITIES)
    assert one.chosen["face"].shape == (100, MOST["face"])


def test_the_fitted_gates_are_the_kernels() -> None:
    made = compose(some_items(), 120, 6)
    reliability, sharpness = (0.9, 0.4, 0.8), (2.0, 0.7, 1.5)
    x = np.r_[np.log(np.array(reliability) / (1 - np.array(reliability))), np.log(sharpness)]
    assert fusers.gate(fusers.evidence(made), x) == pytest.approx(fusers.kernel(made, reliability, sharpness), abs=1e-9)


@pytest.mark.parametrize("name", fusers.RIVALS)
def test_every_fuser_gives_distributions_and_its_fit_beats_its_beginning(name: str) -> None:
    made = compose(some_items(), 700, 7)
    evidence, (fuser, begin) = fusers.evidence(made), fusers.RIVALS[name]
    x = fusers.fit(fuser, begin, evidence, made.truth)
    before, after = fuser(evidence, begin), fuser(evidence, x)
    assert after.sum(axis=1) == pytest.approx(1.0)
    covered = fusers.covered_windows(evidence)

    def loss(p: np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> float:
        return float(-np.log(p[covered, made.truth[covered]] + 1e-9).mean())

    assert loss(after) <= loss(before)


def test_a_search_finds_the_least_of_a_bowl() -> None:
    found = fusers.minimise(lambda x: float(((x - np.array([1.5, -0.25])) ** 2).sum()), np.zeros(2))
    assert found == pytest.approx([1.5, -0.25], abs=0.01)
