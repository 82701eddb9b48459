"""Evaluate recipe and shipped model on EmoDB and RAVDESS. `python -m models.voice_affect.evaluate --data DIR`.

Needs no torch. The figures of the recipe come from folds.csv and gate.csv: predictions of networks that are not
shipped, each for the speaker left out of its training. The shipped ONNX is judged on recordings that were not in its
training either: the demo's speaker, and RAVDESS actors 1-16 (another language, other microphones), each recording cut
to where webrtcvad detects speech. Times are measured by `python -m models.speed voice_affect`.
"""

from __future__ import annotations

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
from models import evaluation, pictures
from models import speed as times
from models.figures import Figure
from models.scores import calibration_figures, interval, lead
from models.voice_affect.recipe.corpus import DEMO_SPEAKER, LABELS, Utterance, emodb, labels, ravdess, split_pieces
from models.voice_affect.recipe.folds import TrainedItemError, cross_fitted, mean_logits, read_folds, speakers_by_item
from models.voice_affect.recipe.gate import Predictions, gate_figures, rival_figures

FOLDER = Path(__file__).resolve().parent
OF_FOLDS, OF_ONNX, OF_FEW = 0.0005, 0.01, 0.045
FEW = "one temperature, fitted on few other speakers, is all that was fitted; more would fit the speakers"

Floats = NDArray[np.float32]


def predict(engine: Engine, utterances: Sequence[Utterance]) -> NDArray[np.float64]:
    """Predict p (n, classes) of n utterances with the shipped model, at its temperature.

    Raises:
        TrainedItemError: the shipped model was trained on one of them.
    """
    trained = {item for item, speaker in speakers_by_item(FOLDER / "folds.csv").items() if speaker != DEMO_SPEAKER}
    refuse_trained(utterances, trained)
    return softmax(logits_of(engine, utterances), engine.spec.temperature)


def logits_of(engine: Engine, utterances: Sequence[Utterance]) -> NDArray[np.floating]:
    """Run a voice model on n recordings, cut to their speech: mean logits (n, classes) over pieces of at most 3 s."""
    logits = []
    for utterance in utterances:
        clip = track_pitch(speech_only(read_audio(utterance.path)))
        features, mask = stack_pieces(split_pieces(voice_features(clip)))
        logits.append(engine.infer({"features": features, "mask": mask})["logits"].mean(axis=0))
    return np.array(logits)


def refuse_trained(utterances: Sequence[Utterance], trained: set[str]) -> None:
    """Check that none of the utterances is among the items that a model was trained on.

    Raises:
        TrainedItemError: one of them is.
    """
    wrong = [u.path.name for u in utterances if u.item in trained]
    if wrong:
        raise TrainedItemError(f"{len(wrong)} items were in this model's training, first {wrong[0]}: it knows them")


def uar_figures(
    p: NDArray[np.float64], utterances: Sequence[Utterance], name: str, of: str, tolerance: float, **more: object
) -> list[Figure]:
    """Measure the UAR of predictions `p` (n, classes) with its interval over speakers, and of each sex as indexed."""
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
    """Measure the mean UAR of one network, from each seed's out-of-fold logits, with its interval over speakers."""
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
    """Return p (n, 4) of EmoDB's utterances by networks trained without the speaker, calibrated on the others."""
    logits = mean_logits(read_folds(FOLDER / "folds.csv", german, LABELS))
    return cross_fitted(logits, labels(german), np.array([u.speaker for u in german]))


def svm_figures(p: NDArray[np.float64], utterances: Sequence[Utterance], svm: NDArray[np.float64]) -> list[Figure]:
    """Measure the UAR of statistics + SVM and the lead of predictions `p` over it, by a bootstrap over speakers."""
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
    """Measure every figure of the card but its speed."""
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
    found += rival_figures(german, Predictions())
    found += calibration_figures(p, truth, of="EmoDB, speakers left out", tolerance=OF_FOLDS, missed=FEW)
    engine = load("voice_affect", threads=1)
    demo = [u for u in german if u.speaker == DEMO_SPEAKER]
    found += uar_figures(predict(engine, demo), demo, "uar_speaker_13", "shipped ONNX, EmoDB's speaker 13", OF_FEW)
    if (data / "ravdess" / "index.csv").exists():
        english = ravdess(data)
        q, of = predict(engine, english), "shipped ONNX, RAVDESS actors 1-16"
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
    """Measure the milliseconds of 3 s of speech with its features, and of the network alone beside torch and others."""
    engine = load(name, threads=times.THREADS, imported=imported)
    samples = np.random.default_rng(0).normal(0, 0.1, 3 * RATE_HZ).astype(np.float32)
    features, mask = stack_pieces([voice_features(track_pitch(samples))])
    inputs = {"features": features, "mask": mask}

    def with_features() -> object:
        x, m = stack_pieces([voice_features(track_pitch(samples))])
        return engine.infer({"features": x, "mask": m})

    def torch_network() -> times.Call:
        import torch

        from models.voice_affect.recipe.fitting import network_of

        network, x, m = network_of(engine.spec.folder), torch.from_numpy(features), torch.from_numpy(mask)
        return lambda: network(x, m)

    calls: dict[str, times.Call] = {"openvino": lambda: engine.infer(inputs)}
    calls |= times.onnxruntime_call(engine.spec.folder / "model.onnx", inputs) | times.torch_call(torch_network)
    taken = times.measure(calls | {"whole": with_features})
    ms = Figure(
        name="ms_whole", what="3 s of speech with its features: median ms on 2 threads of a CPU, batch 1",
        value=taken["whole"], tolerance=taken["whole"], must=8.0, aim=4.0, lower_is_better=True,
    )  # fmt: skip
    return [ms, *times.figures(taken, of="the network alone, 3 s of speech")]


def retrain_one(data: Path, work: Path) -> list[Figure]:
    """Train the network without one speaker again, seed 0, and measure how often it is right beside folds.csv."""
    from models.voice_affect import train
    from models.voice_affect.recipe.fitting import feature_versions

    german, without = emodb(data), "16"
    pool = feature_versions(german, work, train.RECIPE.copies)
    logits = train.leave_speakers_out(train.RECIPE, german, pool, 0, work, without)
    rows = ~np.isnan(logits[:, 0])
    stored = read_folds(FOLDER / "folds.csv", german, LABELS)[0]
    return [retrained(logits, stored, labels(german), rows, f"without speaker {without}", tolerance=0.1)]


def retrained(
    logits: NDArray[np.float64], stored: NDArray[np.float64], truth: NDArray[np.int64], rows: NDArray[np.bool_],
    how: str, tolerance: float,
) -> Figure:  # fmt: skip
    """Measure how often a network trained again is right on the rows left out of its training.

    Its logits equal the stored ones, both (n, classes), only where sums round alike: other rounding (bfloat16, another
    processor or number of threads) ends in another network, as another seed does. The share right must stay.
    """
    again, before = (float((z.argmax(axis=1) == truth)[rows].mean()) for z in (logits, stored))
    share = f"{before:.3f}".removeprefix("0")
    what = f"a network trained again {how}: share right (in folds.csv {share})"
    return Figure(name=f"{evaluation.RETRAINED}right", what=what, value=again, tolerance=tolerance, n=int(rows.sum()))


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line."""
    data_help = "the data folder, with emodb/ and ravdess/ in it"
    given = evaluation.parser("voice_affect", __doc__, data_help, retrain=True).parse_args(arguments)
    found = [*figures(given.data), *(retrain_one(given.data, given.retrain) if given.retrain else [])]

    def draw(folder: Path) -> None:
        german = emodb(given.data)
        pictures.draw(folder, out_of_fold(german), labels(german), LABELS)

    evaluation.report(FOLDER, found, draw, write=given.write, log="all", retain=True)


if __name__ == "__main__":
    main()
