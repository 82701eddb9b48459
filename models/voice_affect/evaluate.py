"""`python -m models.voice_affect.evaluate --data DIR`: the card's figures again, from folds.csv, gate.csv and the ONNX.

Needs no torch. The figure of the recipe comes from folds.csv: networks that are not shipped, each judged on the speaker
it never heard. The shipped ONNX is judged on what it has not heard either: the demo's speaker, and RAVDESS actors 1-16
(another language, other microphones), each recording cut to where webrtcvad hears speech.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kernels.calibration import softmax
from kernels.engines import Engine, load
from kernels.scores import calibration, unweighted_recall
from kernels.voice.audio_files import read_audio, speech_only
from kernels.voice.log_mel import RATE_HZ
from kernels.voice.speech import stack_pieces, track_pitch, voice_features
from models import figures as stated
from models import speed as times
from models.figures import Figure
from models.pictures import draw
from models.scores import calibration_figures, interval, lead
from models.test_log import append_look
from models.voice_affect.recipe.corpus import DEMO_SPEAKER, LABELS, Utterance, emodb, labels, ravdess, split_pieces
from models.voice_affect.recipe.folds import HeardItemError, cross_fitted, read_folds, speakers_by_item, together
from models.voice_affect.recipe.gate import Answers, gate_figures, rival_figures

FOLDER = Path(__file__).resolve().parent
OF_FOLDS, OF_ONNX, OF_FEW = 0.0005, 0.01, 0.045
RETRAINED = "retrained_right"
FEW = "one temperature, fitted on few other speakers, is all that was fitted; more would fit the speakers"

Floats = NDArray[np.float32]


def read(engine: Engine, utterances: Sequence[Utterance]) -> NDArray[np.float64]:
    """Utterances to p (n, classes): the mean of logits over pieces of at most 3 s, by the model's temperature.

    Raises:
        HeardItemError: the shipped model was trained on one of them.
    """
    heard = {item for item, speaker in speakers_by_item(FOLDER / "folds.csv").items() if speaker != DEMO_SPEAKER}
    refuse_heard(utterances, heard)
    logits = []
    for utterance in utterances:
        clip = track_pitch(speech_only(read_audio(utterance.path)))
        features, mask = stack_pieces(split_pieces(voice_features(clip)))
        logits.append(engine.infer({"features": features, "mask": mask})["logits"].mean(axis=0))
    return softmax(np.array(logits), engine.spec.temperature)


def refuse_heard(utterances: Sequence[Utterance], heard: set[str]) -> None:
    """Utterances and the items that a model was trained on; nothing, where these don't meet.

    Raises:
        HeardItemError: they do.
    """
    wrong = [u.path.name for u in utterances if u.item in heard]
    if wrong:
        raise HeardItemError(f"{len(wrong)} items were in this model's training, first {wrong[0]}: it knows them")


def uar_figures(
    p: NDArray[np.float64], utterances: Sequence[Utterance], name: str, of: str, tolerance: float, **more: object
) -> list[Figure]:
    """Answers to the UAR with its interval over speakers, and to that of each sex as indexed."""
    truth, guess = labels(utterances), p.argmax(axis=1)
    speakers, groups = np.array([u.speaker for u in utterances]), np.array([u.group for u in utterances])
    several = len(np.unique(speakers)) > 1
    between = interval(lambda rows: unweighted_recall(truth[rows], guess[rows]), speakers) if several else None
    found = [
        Figure(
            name=name, what=f"{of}: UAR", value=unweighted_recall(truth, guess), tolerance=tolerance, n=len(p),
            interval=between, **more,  # type: ignore[arg-type]  # fields of Figure
        )
    ]  # fmt: skip
    for group in np.unique(groups) if several else ():
        rows = groups == group
        value = unweighted_recall(truth[rows], guess[rows])
        what = f"{of}: UAR, speakers indexed as {group}"
        choice = bool(more.get("choice", False))
        found.append(
            Figure(
                name=f"{name}_{group}", what=what, value=value, tolerance=tolerance, n=int(rows.sum()), choice=choice
            )
        )
    return found


def seed_figures(
    seeds: dict[int, NDArray[np.float64]], truth: NDArray[np.int64], speakers: NDArray[np.str_], of: str
) -> list[Figure]:
    """Each seed's out-of-fold logits to its UAR, and to their mean with its interval over speakers."""
    guesses = [logits.argmax(axis=1) for logits in seeds.values()]

    def mean(rows: NDArray[np.intp]) -> float:
        return float(np.mean([unweighted_recall(truth[rows], guess[rows]) for guess in guesses]))

    each = ", ".join(f"{unweighted_recall(truth, guess):.3f}".removeprefix("0") for guess in guesses)
    return [
        Figure(
            name="uar_one_seed", what=f"{of}: UAR of one network, mean of {len(seeds)} seeds ({each})",
            value=mean(np.arange(len(truth))), tolerance=OF_FOLDS, n=len(truth), interval=interval(mean, speakers),
        )
    ]  # fmt: skip


def out_of_fold(german: Sequence[Utterance]) -> NDArray[np.float64]:
    """EmoDB's utterances to p (n, 4) by networks that never heard the speaker; calibrated on the other speakers."""
    logits = together(read_folds(FOLDER / "folds.csv", german, LABELS))
    return cross_fitted(logits, labels(german), np.array([u.speaker for u in german]))


def svm_figures(p: NDArray[np.float64], utterances: Sequence[Utterance], svm: NDArray[np.float64]) -> list[Figure]:
    """Answers and those of statistics + SVM to the latter's UAR and the lead over it, by a bootstrap over speakers."""
    truth, guess, other = labels(utterances), p.argmax(axis=1), svm.argmax(axis=1)
    ahead = lead(
        lambda rows: unweighted_recall(truth[rows], guess[rows]),
        lambda rows: unweighted_recall(truth[rows], other[rows]),
        np.array([u.speaker for u in utterances]),
    )
    value, n = unweighted_recall(truth, other), len(truth)
    return [
        Figure(name="uar_svm", what="the same by our statistics + SVM: UAR", value=value, tolerance=OF_FOLDS, n=n),
        Figure(
            name="lead", what="the same: lead of the networks over that, drawn over speakers", value=ahead.value,
            tolerance=2 * OF_FOLDS, n=n, interval=(ahead.low, ahead.high),
        ),
    ]  # fmt: skip


def figures(data: Path) -> list[Figure]:
    """The data folder to every figure of the card but its speed."""
    german = emodb(data)
    truth, speakers = labels(german), np.array([u.speaker for u in german])
    seeds = read_folds(FOLDER / "folds.csv", german, LABELS)
    p = out_of_fold(german)
    left_out = "EmoDB, 4 classes, one speaker left out"
    found = uar_figures(
        p, german, "uar", left_out, OF_FOLDS, must=0.80, aim=0.86, floor=".800 (statistics + SVM)",
        published="none on this subset",
    )  # fmt: skip
    found += seed_figures(seeds, truth, speakers, left_out)
    found += svm_figures(p, german, read_folds(FOLDER / "recipe" / "folds_svm.csv", german, LABELS)[0])
    found += rival_figures(german, Answers())
    found += calibration_figures(p, truth, of="EmoDB, speakers left out", tolerance=OF_FOLDS, missed=FEW)
    engine = load("voice_affect", threads=1)
    unheard = [u for u in german if u.speaker == DEMO_SPEAKER]
    found += uar_figures(read(engine, unheard), unheard, "uar_speaker_13", "shipped ONNX, EmoDB's speaker 13", OF_FEW)
    if (data / "ravdess" / "index.csv").exists():
        english = ravdess(data)
        q, of = read(engine, english), "shipped ONNX, RAVDESS actors 1-16"
        found += uar_figures(q, english, "uar_ravdess", of, OF_ONNX, floor=".25 (chance)", choice=True)
        ece = calibration(q, labels(english))
        band = f"a perfect calibrator's: {ece.band[0]:.3f} to {ece.band[1]:.3f}"
        found.append(
            Figure(
                name="ece_ravdess", what=f"ECE, {of}", value=ece.ece, tolerance=OF_ONNX, n=len(english), floor=band,
                lower_is_better=True, choice=True,
            )
        )  # fmt: skip
    return found + gate_figures()


def speed(name: str = "voice_affect", imported: Path | None = None) -> list[Figure]:
    """Milliseconds of 3 s of speech, its features included, and of the network alone, beside torch and onnxruntime."""
    engine = load(name, threads=times.THREADS, imported=imported)
    samples = np.random.default_rng(0).normal(0, 0.1, 3 * RATE_HZ).astype(np.float32)
    features, mask = stack_pieces([voice_features(track_pitch(samples))])
    inputs = {"features": features, "mask": mask}

    def whole() -> object:
        x, m = stack_pieces([voice_features(track_pitch(samples))])
        return engine.infer({"features": x, "mask": m})

    def torch_network() -> times.Call:
        import torch

        from models.voice_affect.recipe.fitting import network_of

        network, x, m = network_of(engine.spec.folder), torch.from_numpy(features), torch.from_numpy(mask)
        return lambda: network(x, m)

    calls: dict[str, times.Call] = {"openvino": lambda: engine.infer(inputs)}
    calls |= times.onnxruntime_call(engine.spec.folder / "model.onnx", inputs) | times.torch_call(torch_network)
    taken = times.measure(calls | {"whole": whole})
    ms = Figure(
        name="ms_whole", what="3 s of speech with its features: median ms on 2 threads of a CPU, batch 1",
        value=taken["whole"], tolerance=taken["whole"], must=8.0, aim=4.0, lower_is_better=True,
    )  # fmt: skip
    return [ms, *times.figures(taken, of="the network alone, 3 s of speech")]


def retrain_one(data: Path, work: Path) -> list[Figure]:
    """Train the network without one speaker again, seed 0: it must be as often right as folds.csv has it."""
    from models.voice_affect import train
    from models.voice_affect.recipe.fitting import pictures

    german, without = emodb(data), "16"
    pool = pictures(german, work, train.RECIPE.copies)
    logits = train.leave_speakers_out(train.RECIPE, german, pool, 0, work, without)
    rows = ~np.isnan(logits[:, 0])
    kept = read_folds(FOLDER / "folds.csv", german, LABELS)[0]
    return [retrained(logits, kept, labels(german), rows, f"without speaker {without}", tolerance=0.1)]


def retrained(
    logits: NDArray[np.float64], kept: NDArray[np.float64], truth: NDArray[np.int64], rows: NDArray[np.bool_],
    how: str, tolerance: float,
) -> Figure:  # fmt: skip
    """Logits of a network trained again and those kept, (n, classes), to the share right of rows left out.

    Answer by answer they agree only where sums round alike: other rounding (bfloat16, another processor or number of
    threads) ends in another network, as another seed does. How often it is right must stay.
    """
    again, before = (float((z.argmax(axis=1) == truth)[rows].mean()) for z in (logits, kept))
    told = f"{before:.3f}".removeprefix("0")
    what = f"a network trained again {how}: share right (in folds.csv {told})"
    return Figure(name=RETRAINED, what=what, value=again, tolerance=tolerance, n=int(rows.sum()))


def state(
    folder: Path, found: Sequence[Figure], p: NDArray[np.float64], truth: NDArray[np.int64], classes: Sequence[str]
) -> None:
    """Figures to a room's figures.json, card, picture of p (n, classes), and a line of its test_log.jsonl.

    Times and the check of retraining stay as they were stated, where they were not looked for again.
    """
    names = {f.name for f in found}
    before = stated.read(folder) if (folder / stated.FIGURES).exists() else []
    apart = [f for f in before if f.name not in names and (times.is_time(f.name) or f.name == RETRAINED)]
    stated.write(folder, [*found, *apart])
    draw(folder, p, truth, classes)
    stated.fill_card(folder)
    append_look(folder, {f.name: f.value for f in found})


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the figures; `--write` states them. The times are stated by `python -m models.speed voice_affect`."""
    parser = argparse.ArgumentParser(prog="python -m models.voice_affect.evaluate", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="the data folder, with emodb/ and ravdess/ in it")
    parser.add_argument("--write", action="store_true", help="state the figures in this folder")
    parser.add_argument("--retrain", type=Path, metavar="WORK", help="train one network again too (extra `train`)")
    chosen = parser.parse_args(arguments)
    found = [*figures(chosen.data), *(retrain_one(chosen.data, chosen.retrain) if chosen.retrain else [])]
    if chosen.write:
        german = emodb(chosen.data)
        state(FOLDER, found, out_of_fold(german), labels(german), LABELS)
    print(stated.table(found))


if __name__ == "__main__":
    main()
