"""The recipe for affective intents: its closed forms equal direct fits, and training lines are refused."""

from pathlib import Path

import numpy as np
import pytest

from models.mintrec import recipe
from streamer.errors import ModelError


def lines_of(group: np.ndarray, prefix: str) -> recipe.Lines:
    ids = [f"{prefix}/{at}" for at in range(len(group))]
    return recipe.Lines(ids, ids, np.array(["ask", "joke", "thank"])[group])


def apart(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    group = random.integers(0, 3, n)
    means = np.eye(3, 8) * 3.0
    return group, (means[group] + random.normal(size=(n, 8))).astype(np.float32)


def test_a_split_is_read_line_by_line_with_quotes_as_they_are(tmp_path: Path) -> None:
    folder = tmp_path / "mintrec" / "data" / "MIntRec"
    folder.mkdir(parents=True)
    text = 'season\tepisode\tclip\ttext\tlabel\nS01\tE02\t3\the said "no.\tComplain\nS01\tE02\t4\tthanks.\tThank\n'
    (folder / "dev.tsv").write_text(text, encoding="utf-8")
    lines = recipe.read(tmp_path, "dev")
    assert (lines.ids, lines.texts) == (["S01/E02/3", "S01/E02/4"], ['he said "no.', "thanks."])
    assert lines.labels.tolist() == ["Complain", "Thank"]


def test_separate_groups_are_classified_with_calibrated_probabilities() -> None:
    group, features = apart(600, 0)
    fitted = recipe.fit(lines_of(group, "train"), features)
    truth, asked = apart(600, 1)
    p = fitted.probabilities(lines_of(truth, "test"), asked)
    right = (p.argmax(axis=1) == truth).mean()
    assert right > 0.9  # noqa: PLR2004
    assert p.max(axis=1).mean() == pytest.approx(right, abs=0.04)
    assert p.sum(axis=1) == pytest.approx(np.ones(600))


def test_the_scores_for_calibration_are_those_of_fits_without_the_line() -> None:
    group, features = apart(60, 2)
    hot = np.eye(3)[group]
    scale = features.std(axis=0) + np.float32(1e-6)
    z = (features - features.mean(axis=0)) / scale
    kernel = np.exp(-0.5 * ((z[:, None] - z[None]) ** 2).sum(axis=2) / 8)
    rest = np.arange(60) != 7  # noqa: PLR2004
    offset = hot.mean(axis=0)
    without = np.linalg.solve(kernel[rest][:, rest] + 0.1 * np.eye(59), (hot - offset)[rest])
    expected = kernel[7, rest] @ without + offset
    assert recipe.unseen_scores(kernel, hot, 0.1)[7] == pytest.approx(expected, abs=1e-6)


def test_a_line_that_it_was_fitted_on_is_refused() -> None:
    group, features = apart(30, 3)
    train = lines_of(group, "train")
    fitted = recipe.fit(train, features)
    with pytest.raises(ModelError, match="fitted on 30 of these lines"):
        fitted.probabilities(train, features)
