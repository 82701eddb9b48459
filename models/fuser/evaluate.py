"""Evaluate the shipped fusion gates and their rivals. `python -m models.fuser.evaluate --data DIR`.

Rivals are fitted again on half A's windows, in seconds, and judged on half B's: other items, other speakers. Nothing is
chosen here. `derived_*`: valence, arousal and dominance derived from text_affect's emotions, against people's ratings
of EmoBank's dev sentences, on which nothing of it was fitted.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kernels import model_input, scores
from kernels.emotions import SEVEN
from kernels.vad import vad_of
from models import evaluation, pictures
from models.figures import Figure
from models.fuser import fit, fusers
from models.fuser.compose import MODALITIES, Composed, compose, read
from models.scores import calibration_figures, interval, lead
from models.text_affect.recipe.encode import Encoder
from models.text_vad import emobank
from streamer.cli.arguments import default_topology
from streamer.topology.reading import load_topology

FOLDER = Path(__file__).resolve().parent
WINDOWS = 4000
SEED = 2
SHIPPED = "gates as shipped"
SINGLE = ("best single (face)",)
_TOLERANCE = 0.01

Floats = NDArray[np.float64]


def figures(data: Path) -> list[Figure]:
    """Measure every figure of the card; about a minute on one core."""
    return _compare(*_judge(data)) + derived(data)


def _compare(judged: Composed, found: Mapping[str, Floats]) -> list[Figure]:
    contradicted, covered = judged.kind == "conflict", fusers.covered_windows(fusers.evidence(judged))
    measured: list[Figure] = []
    for name, p in found.items():
        guess, slug = p.argmax(axis=1), _slug(name)
        measured.append(_figure(f"{slug}_macro_f1", f"macro-F1, {name}", *_macro_f1(judged, guess), len(p)))
        hit = (guess == judged.truth)[contradicted]
        measured.append(_figure(f"{slug}_conflict", f"accuracy in conflict, {name}", float(hit.mean()), None, len(hit)))
        calibration = scores.calibration(p[covered], judged.truth[covered])
        measured.append(_figure(f"{slug}_nll", f"NLL (nats), {name}", calibration.nll, None, len(covered)))
        if name == SHIPPED:
            measured.append(_figure(f"{slug}_ece", f"ECE, {name}", calibration.ece, None, len(covered)))
    measured += [_lead(judged, found["gate"], found[rival], rival) for rival in found if rival not in ("gate", SHIPPED)]
    gates, truth = found["gate"][covered], judged.truth[covered]
    measured += calibration_figures(gates, truth, of="half B, gates fitted on half A", tolerance=_TOLERANCE)
    return measured


def derived(data: Path) -> list[Figure]:
    """Measure Pearson's r between the VAD derived from text_affect's emotions and EmoBank's dev ratings."""
    sentences, encoder = emobank.read(data, "dev"), Encoder(threads=1)
    spec = encoder.engine.spec
    p, _ = model_input.emotions(spec, encoder.outputs(sentences.texts)["logits"])
    guess = np.array([vad_of(dict(zip(spec.labels, row, strict=True))) for row in p.tolist()])

    def r(axis: int, rows: NDArray[np.intp]) -> float:
        return float(np.corrcoef(sentences.vad[rows, axis], guess[rows, axis])[0, 1])

    every, measured = np.arange(len(guess)), []
    for axis, name in enumerate(emobank.DIMENSIONS):
        between = interval(lambda rows, axis=axis: r(axis, rows), len(guess), 500)  # type: ignore[misc]
        what = f"r of {name} derived from text_affect's emotions with ratings, EmoBank dev"
        measured.append(_figure(f"derived_{name}", what, r(axis, every), between, len(guess)))
    return measured


def _judge(data: Path) -> tuple[Composed, dict[str, Floats]]:
    """Compose half B's windows and let each fuser predict their classes: probabilities (n, 7) by the fuser's name."""
    fitted_on = compose(read(data, "A"), fit.WINDOWS, fit.SEED)
    judged = compose(read(data, "B"), WINDOWS, SEED)
    a, b = fusers.evidence(fitted_on), fusers.evidence(judged)
    declared = load_topology(default_topology()).modalities
    reliability = [declared[m].reliability or 0.0 for m in MODALITIES]
    found = {SHIPPED: fusers.kernel(judged, reliability, [declared[m].sharpness for m in MODALITIES])}
    for name, (fuser, begin) in fusers.RIVALS.items():
        found[name] = fuser(b, fusers.fit(fuser, begin, a, fitted_on.truth))
    found["concatenation"] = fusers.concatenation(a, fitted_on.truth, b)
    return judged, found


def _macro_f1(judged: Composed, guess: NDArray[np.int64]) -> tuple[float, tuple[float, float]]:
    truth = judged.truth
    between = interval(lambda rows: scores.macro_f1(truth[rows], guess[rows]), len(truth), 500)
    return scores.macro_f1(truth, guess), between


def _lead(judged: Composed, ours: Floats, theirs: Floats, rival: str) -> Figure:
    truth, a, b = judged.truth, ours.argmax(axis=1), theirs.argmax(axis=1)
    found = lead(
        lambda rows: scores.macro_f1(truth[rows], a[rows]), lambda rows: scores.macro_f1(truth[rows], b[rows]),
        len(truth), 500,
    )  # fmt: skip
    return Figure(
        name=f"lead_over_{_slug(rival)}", what=f"lead of the gates in macro-F1 over {rival}", value=found.value,
        tolerance=_TOLERANCE, n=len(truth), interval=(found.low, found.high), must=0.0 if rival in SINGLE else None,
    )  # fmt: skip


def _slug(name: str) -> str:
    return name.partition(" (")[0].replace(" ", "_")


def _figure(name: str, what: str, value: float, between: tuple[float, float] | None, n: int) -> Figure:
    return Figure(name=name, what=what, value=value, tolerance=_TOLERANCE, n=n, interval=between)


def main() -> None:
    """Run the command line."""
    given = evaluation.parser("fuser", __doc__, "holds fer2013/, goemotions/, emodb/ and emobank/").parse_args()
    judged, p = _judge(given.data)

    def draw(folder: Path) -> None:
        covered = fusers.covered_windows(fusers.evidence(judged))
        pictures.draw(folder, p["gate"][covered], judged.truth[covered], SEVEN)

    found = _compare(judged, p) + derived(given.data)
    evaluation.report(FOLDER, found, draw, write=given.write, log="none")


if __name__ == "__main__":
    main()
