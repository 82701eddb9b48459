"""Half B's windows in, the card's figures out: the shipped gates and the rivals. `python -m models.fuser.evaluate`.

Rivals are fitted again on half A's windows, in seconds, and judged on half B's: other items, other speakers. Nothing is
chosen here. `derived_*`: valence, arousal and dominance from text_affect's emotions against what people rated on
EmoBank's dev sentences, which nothing of it was fitted on.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kernels import model_input, scores
from kernels.emotions import SEVEN
from kernels.vad import vad_of
from models import figures as stated
from models import pictures
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
    """The data folder to every figure of the card; about a minute on one core."""
    return _stated(*_judge(data)) + derived(data)


def _stated(judged: Composed, found: Mapping[str, Floats]) -> list[Figure]:
    contradicted, said = judged.kind == "conflict", fusers.sayable(fusers.evidence(judged))
    told: list[Figure] = []
    for name, p in found.items():
        guess, slug = p.argmax(axis=1), _slug(name)
        told.append(_figure(f"{slug}_macro_f1", f"macro-F1, {name}", *_macro_f1(judged, guess), len(p)))
        hit = (guess == judged.truth)[contradicted]
        told.append(_figure(f"{slug}_conflict", f"accuracy in conflict, {name}", float(hit.mean()), None, len(hit)))
        far = scores.calibration(p[said], judged.truth[said])
        told.append(_figure(f"{slug}_nll", f"NLL (nats), {name}", far.nll, None, len(said)))
        if name == SHIPPED:
            told.append(_figure(f"{slug}_ece", f"ECE, {name}", far.ece, None, len(said)))
    told += [_lead(judged, found["gate"], found[rival], rival) for rival in found if rival not in ("gate", SHIPPED)]
    gates, truth = found["gate"][said], judged.truth[said]
    told += calibration_figures(gates, truth, of="half B, gates fitted on half A", tolerance=_TOLERANCE)
    return told


def derived(data: Path) -> list[Figure]:
    """Pearson's r of the VAD that text_affect's emotions stand for, with EmoBank's dev ratings."""
    sentences, encoder = emobank.read(data, "dev"), Encoder(threads=1)
    spec = encoder.engine.spec
    p, _ = model_input.emotions(spec, encoder.outputs(sentences.texts)["logits"])
    guess = np.array([vad_of(dict(zip(spec.labels, row, strict=True))) for row in p.tolist()])

    def r(axis: int, rows: NDArray[np.intp]) -> float:
        return float(np.corrcoef(sentences.vad[rows, axis], guess[rows, axis])[0, 1])

    every, told = np.arange(len(guess)), []
    for axis, name in enumerate(emobank.DIMENSIONS):
        between = interval(lambda rows, axis=axis: r(axis, rows), len(guess), 500)  # type: ignore[misc]
        what = f"r of {name} derived from text_affect's emotions with ratings, EmoBank dev"
        told.append(_figure(f"derived_{name}", what, r(axis, every), between, len(guess)))
    return told


def _judge(data: Path) -> tuple[Composed, dict[str, Floats]]:
    """Half B's windows, and what each fuser makes of them."""
    learnt = compose(read(data, "A"), fit.WINDOWS, fit.SEED)
    judged = compose(read(data, "B"), WINDOWS, SEED)
    a, b = fusers.evidence(learnt), fusers.evidence(judged)
    declared = load_topology(default_topology()).modalities
    reliability = [declared[m].reliability or 0.0 for m in MODALITIES]
    found = {SHIPPED: fusers.kernel(judged, reliability, [declared[m].sharpness for m in MODALITIES])}
    for name, (fuser, begin) in fusers.RIVALS.items():
        found[name] = fuser(b, fusers.fit(fuser, begin, a, learnt.truth))
    found["concatenation"] = fusers.concatenation(a, learnt.truth, b)
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
    """Command line in, the table out; `--write` states the figures and draws the picture."""
    parser = argparse.ArgumentParser(prog="python -m models.fuser.evaluate", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="holds fer2013/, goemotions/, emodb/ and emobank/")
    parser.add_argument("--write", action="store_true", help="state the figures here and draw the card's picture")
    given = parser.parse_args()
    judged, answers = _judge(given.data)
    found = _stated(judged, answers) + derived(given.data)
    print(stated.table(found))
    if given.write:
        stated.write(FOLDER, found)
        stated.fill_card(FOLDER)
        said = fusers.sayable(fusers.evidence(judged))
        pictures.draw(FOLDER, answers["gate"][said], judged.truth[said], SEVEN)


if __name__ == "__main__":
    main()
