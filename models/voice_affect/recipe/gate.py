"""`python -m models.voice_affect.recipe.gate --data DIR`: fits how far short, noisy or clipped speech is to be trusted.

EmoDB's utterances are cut short, put under noise and clipped, and heard by what ships, networks of every seed together,
as `train` left them under --work without the speaker. Each answer goes to gate.csv: condition, what `sense_voice` sees
of its quality, the top class's calibrated p, whether it was right, and whether statistics + SVM were (`baseline`, which
heard whole utterances and random stretches of the other speakers). `fit` finds the tables of `kernels/voice/trust.py`.
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
from models.voice_affect.recipe.folds import cross_fitted_temperatures, read_folds, together

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
    """Samples (n,) at 16 kHz to what is left of them under a condition."""
    seconds, snr_db, clipped = condition
    x = samples[: round(seconds * RATE_HZ)]
    if snr_db is not None:
        x = add_noise(x, snr_db, rng)
        x = x / max(float(np.abs(x).max()), 1.0)
    if clipped:
        x = np.clip(x / np.quantile(np.abs(x), 1 - clipped), -1.0, 1.0)
    return np.asarray(np.round(x * 32767) / 32768, np.float32)


def speech_seconds(samples: Floats) -> float:
    """Samples at 16 kHz to the seconds that webrtcvad calls speech, in frames of 20 ms, as `sense_voice` counts."""
    import webrtcvad

    detector, pcm = webrtcvad.Vad(2), (samples * 32768).astype("<i2")
    whole = range(0, len(pcm) - _FRAME + 1, _FRAME)
    return 0.02 * len([at for at in whole if detector.is_speech(pcm[at : at + _FRAME].tobytes(), RATE_HZ)])


class Answers:
    """gate.csv, one entry for each answer: item, condition, quality, p of the top class, whether right, and the SVM."""

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
        """The top word's p as `sense_voice` takes it down, by the tables that ship."""
        trust = SPEECH_S.factor(self.speech_s) * RANGE_DB.factor(self.range_db) * CLIPPED.factor(self.clipped)
        return np.asarray(CHANCE + (self.top - CHANCE) * trust)


def fit(answers: Answers) -> dict[str, Table]:
    """Answers to the three tables: at each knot, how often right beyond chance over how sure beyond chance.

    One after the other, each on the answers that those before it leave to explain; every answer counts for the two
    knots around it by its distance. A table never falls as quality rises and never exceeds 1.
    """
    sure, gained = answers.top - CHANCE, answers.right - CHANCE
    short, unclipped = np.isin(answers.condition, _SHORT), answers.clipped == 0
    speech = _table(SPEECH_S.at, answers.speech_s[short], sure[short], gained[short])
    sure = sure * speech.factor(answers.speech_s)
    ranged = _table(RANGE_DB.at, answers.range_db[unclipped], sure[unclipped], gained[unclipped])
    sure = sure * ranged.factor(answers.range_db)
    clipped = ~unclipped | (answers.condition == "3 s")
    falling = _table(tuple(-v for v in CLIPPED.at[::-1]), -answers.clipped[clipped], sure[clipped], gained[clipped])
    return {"SPEECH_S": speech, "RANGE_DB": ranged, "CLIPPED": Table(CLIPPED.at, falling.factors[::-1])}


def _table(at: tuple[float, ...], seen: Wide, sure: Wide, gained: Wide) -> Table:
    near = np.stack([np.interp(seen, at, one) for one in np.eye(len(at))], axis=1)
    found = (near * gained[:, None]).sum(axis=0) / np.maximum((near * sure[:, None]).sum(axis=0), 1e-9)
    return Table(at, tuple(np.maximum.accumulate(np.clip(found, 0.0, 1.0)).round(2).tolist()))


def by_condition(answers: Answers) -> str:
    """Answers to the card's Markdown table: how often each is right, how sure before and behind the gate."""
    lines = ["| heard | n | SVM right | right | p of the top class | confidence |", "|---|---|---|---|---|---|"]
    said = answers.confidence()
    for name in CONDITIONS:
        rows = answers.condition == name
        shares = (answers.svm[rows].mean(), answers.right[rows].mean(), answers.top[rows].mean(), said[rows].mean())
        lines.append(f"| {name} | {rows.sum()} | {' | '.join(f'{v:.2f}'.removeprefix('0') for v in shares)} |")
    return "\n".join(lines)


def gate_figures() -> list[Figure]:
    """gate.csv to how far confidence is off on spoilt speech, with the gate and without, over the conditions."""
    answers = Answers()
    said = {"gate": answers.confidence(), "no_gate": answers.top}
    told = {"gate": "the top class's p behind the gate", "no_gate": "p of the top class"}
    found = []
    for name, sure in said.items():
        gaps = [
            abs(sure[rows].mean() - answers.right[rows].mean())
            for rows in (answers.condition == condition for condition in CONDITIONS)
        ]
        what = f"short, noisy or clipped EmoDB: mean distance of {told[name]} from the share right, {len(gaps)} ways"
        found.append(
            Figure(
                name=f"off_with_{name}", what=what, value=float(np.mean(gaps)), tolerance=0.0005,
                n=len(answers.top), lower_is_better=True, choice=name == "gate",
            )
        )  # fmt: skip
    return found


def rival_figures(german: Sequence[Utterance], answers: Answers) -> list[Figure]:
    """EmoDB and its answers to the UAR of the networks and of statistics + SVM on spoilt speech, and the lead.

    Of the mean of all conditions and of the shortest alone; drawn over speakers.

    Raises:
        ValueError: the answers are not one for each of these utterances and conditions.
    """
    rows = {key: row for row, key in enumerate(zip(answers.item, answers.condition, strict=True))}
    wanted = [(u.item[:8], way) for u in german for way in CONDITIONS]
    if len(rows) != len(answers.item) or set(rows) != set(wanted):
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
        ours, theirs = (recall_of(right[ways].mean(axis=1), truth) for right in (answers.right, answers.svm))
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


def recall_of(right: Wide, truth: NDArray[np.int64]) -> Score:
    """Shares of ways in which each row was right (n,), and its class, to the mean UAR of those ways, of chosen rows."""
    return lambda rows: float(np.mean([right[rows][truth[rows] == one].mean() for one in np.unique(truth[rows])]))


def listen_to(data: Path, work: Path, room: Path = FOLDER) -> None:
    """EmoDB under every condition, heard by the networks in `work` that never heard its speakers, to a room's gate.csv.

    The room's folds.csv gives the temperatures.
    """
    import torch

    from models.voice_affect.recipe.baseline import machine, statistics, stretches, whole
    from models.voice_affect.recipe.fitting import pictures
    from models.voice_affect.recipe.network import Together
    from models.voice_affect.train import RECIPE, SEEDS

    german = emodb(data)
    truth, speakers = labels(german), np.array([u.speaker for u in german])
    seeds = read_folds(room / "folds.csv", german, LABELS)
    temperatures = cross_fitted_temperatures(together(seeds), truth, speakers)
    pool = pictures(german, work, RECIPE.copies)
    taught = np.concatenate([whole(pool), stretches(pool)], axis=1)
    table = room / "recipe" / "gate.csv"
    table.parent.mkdir(parents=True, exist_ok=True)
    with table.open("w", encoding="utf-8", newline="") as handle:
        rows = csv.writer(handle, lineterminator="\n")
        rows.writerow(["item", "condition", "speech_s", "range_db", "clipped", "top", "right", "svm"])
        for speaker in np.unique(speakers):
            members = [RECIPE.network() for _ in SEEDS]
            for seed, member in zip(SEEDS, members, strict=True):
                member.load_state_dict(torch.load(work / f"without-{speaker}-seed-{seed}.pt", weights_only=True))
            networks, others = Together(members).eval(), speakers != speaker
            svm = machine(taught[others], truth[others])
            for at in np.flatnonzero(speakers == speaker):
                rng, samples = np.random.default_rng([5, int(at)]), read_audio(german[at].path)
                pieces = [track_pitch(degrade(samples, condition, rng)) for condition in CONDITIONS.values()]
                heard = [voice_features(piece) for piece in pieces]
                x, mask = (torch.from_numpy(a) for a in stack_pieces(heard))
                with torch.no_grad():
                    answers = softmax(networks(x, mask)[0].numpy(), temperatures[speaker])
                scores = svm.decision_function([statistics(one) for one in heard])
                for name, piece, answer, score in zip(CONDITIONS, pieces, answers, scores, strict=True):
                    sound, right = measure_acoustics(piece), [int(v.argmax() == truth[at]) for v in (answer, score)]
                    quality = f"{speech_seconds(piece.samples):.2f}", f"{sound.range_db:.1f}", f"{sound.clipped:.4f}"
                    rows.writerow([german[at].item[:8], name, *quality, f"{answer.max():.3f}", *right])


def main(arguments: Sequence[str] | None = None) -> None:
    """Listen again, and print the tables that `kernels/voice/trust.py` should hold and the card's table."""
    parser = argparse.ArgumentParser(prog="python -m models.voice_affect.recipe.gate", description=__doc__)
    parser.add_argument("--data", type=Path, help="the data folder, with emodb/ in it; left out: gate.csv as it is")
    parser.add_argument("--work", type=Path, default=Path("build/voice_affect"), help="what `train` left")
    chosen = parser.parse_args(arguments)
    if chosen.data:
        listen_to(chosen.data, chosen.work)
    for name, table in fit(Answers()).items():
        print(f"{name} = Table({table.at}, {table.factors})")
    print(by_condition(Answers()))


if __name__ == "__main__":
    main()
