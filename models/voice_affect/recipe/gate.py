"""Fit the trust in short, noisy or clipped speech: `python -m models.voice_affect.recipe.gate --data DIR`.

EmoDB's utterances are cut short, mixed with noise and clipped, and classified as the shipped model does, by the mean of
every seed's network, which `train` left in --work without the speaker. Each prediction is a row of gate.csv: condition,
the quality that `sense_voice` measures, the top class's calibrated p, whether it was right, and whether statistics +
SVM were (`baseline`, fitted on full utterances and random stretches of the other speakers). `fit` finds the tables of
`kernels/voice/trust.py`.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kernels.calibration import softmax
from kernels.voice.audio_files import read_audio
from kernels.voice.log_mel import RATE_HZ
from kernels.voice.speech import measure_acoustics, stack_pieces, track_pitch, voice_features
from kernels.voice.trust import CLIPPED, RANGE_DB, SPEECH_S, Table
from models.figures import Figure
from models.scores import Score, interval, lead
from models.voice_affect.recipe.augment import add_noise
from models.voice_affect.recipe.corpus import LABELS, Utterance, emodb, labels
from models.voice_affect.recipe.folds import cross_fitted_temperatures, mean_logits, read_folds

FOLDER = Path(__file__).resolve().parents[1]
CONDITIONS: dict[str, tuple[float, float | None, float]] = {
    "0.6 s": (0.6, None, 0.0), "0.8 s": (0.8, None, 0.0), "1.0 s": (1.0, None, 0.0), "1.5 s": (1.5, None, 0.0),
    "3 s": (3.0, None, 0.0), "3 s, 20 dB": (3.0, 20.0, 0.0), "3 s, 10 dB": (3.0, 10.0, 0.0),
    "3 s, 5 dB": (3.0, 5.0, 0.0), "3 s, 0 dB": (3.0, 0.0, 0.0), "1.0 s, 10 dB": (1.0, 10.0, 0.0),
    "3 s, 1 % clipped": (3.0, None, 0.01), "3 s, 5 % clipped": (3.0, None, 0.05),
    "3 s, 20 % clipped": (3.0, None, 0.2),
}  # fmt: skip
"""Name to seconds from the onset, signal-to-noise ratio in dB (None: as recorded), and share of samples clipped."""
CHANCE = 0.25
_FRAME = 320
_SHORT = [name for name, (_, snr_db, clipped) in CONDITIONS.items() if snr_db is None and not clipped]

Floats = NDArray[np.float32]
Wide = NDArray[np.float64]


def degrade(samples: Floats, condition: tuple[float, float | None, float], rng: np.random.Generator) -> Floats:
    """Degrade samples (n,) at 16 kHz by a condition: cut, then add noise, then clip."""
    seconds, snr_db, clipped = condition
    x = samples[: round(seconds * RATE_HZ)]
    if snr_db is not None:
        x = add_noise(x, snr_db, rng)
        x = x / max(float(np.abs(x).max()), 1.0)
    if clipped:
        x = np.clip(x / np.quantile(np.abs(x), 1 - clipped), -1.0, 1.0)
    return np.asarray(np.round(x * 32767) / 32768, np.float32)


def speech_seconds(samples: Floats) -> float:
    """Count the seconds that webrtcvad classifies as speech, in frames of 20 ms, as `sense_voice` does."""
    import webrtcvad

    detector, pcm = webrtcvad.Vad(2), (samples * 32768).astype("<i2")
    frames = range(0, len(pcm) - _FRAME + 1, _FRAME)
    return 0.02 * len([at for at in frames if detector.is_speech(pcm[at : at + _FRAME].tobytes(), RATE_HZ)])


class Predictions:
    """gate.csv as arrays (n,): item, condition, quality, p of the top class, whether that and the SVM were right."""

    def __init__(self, path: Path = FOLDER / "recipe" / "gate.csv") -> None:
        with path.open(encoding="utf-8", newline="") as handle:
            rows = list(csv.DictReader(handle))
        self.item = np.array([row["item"] for row in rows])
        self.condition = np.array([row["condition"] for row in rows])
        self.speech_s, self.range_db, self.clipped, self.top = (
            np.array([float(row[name]) for row in rows]) for name in ("speech_s", "range_db", "clipped", "top")
        )
        self.right, self.svm = (np.array([float(row[name]) for row in rows]) for name in ("right", "svm"))

    def confidence(self) -> NDArray[np.float64]:
        """The top class's p as `sense_voice` lowers it by the shipped tables (n,)."""
        trust = SPEECH_S.factor(self.speech_s) * RANGE_DB.factor(self.range_db) * CLIPPED.factor(self.clipped)
        return np.asarray(CHANCE + (self.top - CHANCE) * trust)


def fit(predictions: Predictions) -> dict[str, Table]:
    """Fit the three tables: at each knot, accuracy beyond chance over confidence beyond chance.

    The tables are fitted in turn, each to the confidence as lowered by those before it. Every prediction counts for
    the two knots around it by its distance. A table is monotonic in quality and never exceeds 1.
    """
    sure, gained = predictions.top - CHANCE, predictions.right - CHANCE
    short, unclipped = np.isin(predictions.condition, _SHORT), predictions.clipped == 0
    speech = _table(SPEECH_S.at, predictions.speech_s[short], sure[short], gained[short])
    sure = sure * speech.factor(predictions.speech_s)
    ranged = _table(RANGE_DB.at, predictions.range_db[unclipped], sure[unclipped], gained[unclipped])
    sure = sure * ranged.factor(predictions.range_db)
    clipped = ~unclipped | (predictions.condition == "3 s")
    falling = _table(tuple(-v for v in CLIPPED.at[::-1]), -predictions.clipped[clipped], sure[clipped], gained[clipped])
    return {"SPEECH_S": speech, "RANGE_DB": ranged, "CLIPPED": Table(CLIPPED.at, falling.factors[::-1])}


def _table(at: tuple[float, ...], seen: Wide, sure: Wide, gained: Wide) -> Table:
    near = np.stack([np.interp(seen, at, one) for one in np.eye(len(at))], axis=1)
    found = (near * gained[:, None]).sum(axis=0) / np.maximum((near * sure[:, None]).sum(axis=0), 1e-9)
    return Table(at, tuple(np.maximum.accumulate(np.clip(found, 0.0, 1.0)).round(2).tolist()))


def condition_table(predictions: Predictions) -> str:
    """Format the card's Markdown table: accuracy, and confidence before and behind the gate, for each condition."""
    lines = ["| heard | n | SVM right | right | p of the top class | confidence |", "|---|---|---|---|---|---|"]
    confidence = predictions.confidence()
    for name in CONDITIONS:
        rows = predictions.condition == name
        columns = (predictions.svm, predictions.right, predictions.top, confidence)
        shares = [column[rows].mean() for column in columns]
        lines.append(f"| {name} | {rows.sum()} | {' | '.join(f'{v:.2f}'.removeprefix('0') for v in shares)} |")
    return "\n".join(lines)


def gate_figures() -> list[Figure]:
    """Measure the gap between confidence and accuracy on degraded speech, with and without the gate."""
    predictions = Predictions()
    confidences = {"gate": predictions.confidence(), "no_gate": predictions.top}
    texts = {"gate": "the top class's p behind the gate", "no_gate": "p of the top class"}
    found = []
    for name, confidence in confidences.items():
        gaps = [
            abs(confidence[rows].mean() - predictions.right[rows].mean())
            for rows in (predictions.condition == condition for condition in CONDITIONS)
        ]
        what = f"short, noisy or clipped EmoDB: mean distance of {texts[name]} from the share right, {len(gaps)} ways"
        found.append(
            Figure(
                name=f"off_with_{name}", what=what, value=float(np.mean(gaps)), tolerance=0.0005,
                n=len(predictions.top), lower_is_better=True, choice=name == "gate",
            )
        )  # fmt: skip
    return found


def rival_figures(german: Sequence[Utterance], predictions: Predictions) -> list[Figure]:
    """Measure the UAR of the networks and of statistics + SVM on degraded EmoDB, and the lead.

    For the mean of all conditions and for the shortest alone; intervals are drawn over speakers.

    Raises:
        ValueError: there is not exactly one prediction for each of these utterances and conditions.
    """
    rows = {key: row for row, key in enumerate(zip(predictions.item, predictions.condition, strict=True))}
    wanted = [(u.item[:8], way) for u in german for way in CONDITIONS]
    if len(rows) != len(predictions.item) or set(rows) != set(wanted):
        raise ValueError("gate.csv: not one answer for each of these recordings and conditions; listen again")
    order = np.reshape([rows[key] for key in wanted], (len(german), len(CONDITIONS)))
    truth, speakers = labels(german), np.array([u.speaker for u in german])
    every = np.arange(len(german))
    shortest = min(CONDITIONS, key=lambda way: CONDITIONS[way][0])
    found = []
    for name, of, ways in (
        ("spoilt", f"short, noisy or clipped EmoDB, mean of {len(CONDITIONS)} ways", order),
        ("shortest", f"EmoDB's first {shortest} alone", order[:, [list(CONDITIONS).index(shortest)]]),
    ):
        ours, theirs = (mean_recall(right[ways].mean(axis=1), truth) for right in (predictions.right, predictions.svm))
        ahead = lead(ours, theirs, speakers)
        for score, what, value, between in (
            ("uar", "UAR of the networks", ours(every), interval(ours, speakers)),
            ("uar_svm", "UAR of statistics + SVM", theirs(every), interval(theirs, speakers)),
            ("lead", "lead of the networks over it, drawn over speakers", ahead.value, (ahead.low, ahead.high)),
        ):
            found.append(
                Figure(
                    name=f"{score}_{name}", what=f"{of}: {what}", value=value, tolerance=0.0005, n=ways.size,
                    interval=between,
                )
            )  # fmt: skip
    return found


def mean_recall(right: Wide, truth: NDArray[np.int64]) -> Score:
    """Make the score that is the mean UAR over conditions of chosen rows.

    Args:
        right: the share of conditions in which each row was right (n,).
        truth: each row's class (n,).
    """
    return lambda rows: float(np.mean([right[rows][truth[rows] == one].mean() for one in np.unique(truth[rows])]))


def write_predictions(data: Path, work: Path, folder: Path = FOLDER) -> None:
    """Classify EmoDB under every condition by the networks in `work` trained without the speaker; write gate.csv.

    The temperatures come from the folds.csv of the model folder `folder`; gate.csv is written to its `recipe`.
    """
    import torch

    from models.voice_affect.recipe.baseline import (
        fit_svm,
        statistics,
        stretch_statistics,
        utterance_statistics,
    )
    from models.voice_affect.recipe.fitting import feature_versions
    from models.voice_affect.recipe.network import Together
    from models.voice_affect.train import RECIPE, SEEDS

    german = emodb(data)
    truth, speakers = labels(german), np.array([u.speaker for u in german])
    seeds = read_folds(folder / "folds.csv", german, LABELS)
    temperatures = cross_fitted_temperatures(mean_logits(seeds), truth, speakers)
    pool = feature_versions(german, work, RECIPE.copies)
    examples = np.concatenate([utterance_statistics(pool), stretch_statistics(pool)], axis=1)
    table = folder / "recipe" / "gate.csv"
    table.parent.mkdir(parents=True, exist_ok=True)
    with table.open("w", encoding="utf-8", newline="") as handle:
        rows = csv.writer(handle, lineterminator="\n")
        rows.writerow(["item", "condition", "speech_s", "range_db", "clipped", "top", "right", "svm"])
        for speaker in np.unique(speakers):
            members = [RECIPE.network() for _ in SEEDS]
            for seed, member in zip(SEEDS, members, strict=True):
                member.load_state_dict(torch.load(work / f"without-{speaker}-seed-{seed}.pt", weights_only=True))
            networks, others = Together(members).eval(), speakers != speaker
            svm = fit_svm(examples[others], truth[others])
            for at in np.flatnonzero(speakers == speaker):
                rng, samples = np.random.default_rng([5, int(at)]), read_audio(german[at].path)
                pieces = [track_pitch(degrade(samples, condition, rng)) for condition in CONDITIONS.values()]
                features = [voice_features(piece) for piece in pieces]
                x, mask = (torch.from_numpy(a) for a in stack_pieces(features))
                with torch.no_grad():
                    predicted = softmax(networks(x, mask)[0].numpy(), temperatures[speaker])
                scores = svm.decision_function([statistics(one) for one in features])
                for name, piece, p, score in zip(CONDITIONS, pieces, predicted, scores, strict=True):
                    sound, right = measure_acoustics(piece), [int(v.argmax() == truth[at]) for v in (p, score)]
                    quality = f"{speech_seconds(piece.samples):.2f}", f"{sound.range_db:.1f}", f"{sound.clipped:.4f}"
                    rows.writerow([german[at].item[:8], name, *quality, f"{p.max():.3f}", *right])


def main(arguments: Sequence[str] | None = None) -> None:
    """Write gate.csv again if `--data` is given; print the tables of `kernels/voice/trust.py` and the card's table."""
    parser = argparse.ArgumentParser(prog="python -m models.voice_affect.recipe.gate", description=__doc__)
    parser.add_argument("--data", type=Path, help="the data folder, with emodb/ in it; left out: gate.csv as it is")
    parser.add_argument("--work", type=Path, default=Path("build/voice_affect"), help="what `train` left")
    chosen = parser.parse_args(arguments)
    if chosen.data:
        write_predictions(chosen.data, chosen.work)
    for name, table in fit(Predictions()).items():
        print(f"{name} = Table({table.at}, {table.factors})")
    print(condition_table(Predictions()))


if __name__ == "__main__":
    main()
