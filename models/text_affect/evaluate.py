"""Evaluate the shipped model on GoEmotions test, and elsewhere. `python -m models.text_affect.evaluate --data DIR`.

Needs the run-time packages only. Thresholds of the multi-label figures come from dev; nothing else is chosen. `--write`
(with matplotlib) states the figures: figures.json, the card's table and picture, and a line of `test_log.jsonl`.
Without it nothing is stored. Times are measured by `python -m models.speed text_affect`.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from kernels.calibration import softmax
from kernels.emotions import EMOTIONS, SEVEN
from kernels.engines import MODELS
from kernels.scores import Flags, f1
from models import evaluation, pictures
from models import speed as times
from models.figures import Figure
from models.scores import calibration_figures, interval
from models.text_affect.recipe import elsewhere, scores, split
from models.text_affect.recipe.encode import MODEL, Encoder
from models.text_affect.recipe.swap import Swap, swap

_TOLERANCE, _TOLERANCE_OF_A_CLASS, _TOLERANCE_OF_SWAPS = 0.004, 0.015, 0.004
_TOLERANCE_OF_28 = 0.01
"""Some labels have few comments: a threshold that another CPU's last digits move costs them much."""
_DRAWS = 500
_TOKENS, _ORDINARY_WORD = 32, 2000
_MUST_MS, _AIM_MS = 4.0, 2.0


class Judged(NamedTuple):
    """Comments (n), `p` of the nine emotions (n x 9), the raters' shares (n x 9), and the raw outputs."""

    comments: list[split.Comment]
    p: NDArray[np.float64]
    shares: NDArray[np.float32]
    logits: NDArray[np.float32]
    goemotions: NDArray[np.float32]


def judge(data: Path, comments: list[split.Comment], encoder: Encoder) -> Judged:
    """Run the encoder on comments.

    Raises:
        ModelError: it was trained on one of them.
    """
    split.refuse_trained(data, comments)
    outputs = encoder.outputs([comment.text for comment in comments])
    logits = outputs["logits"]
    p = softmax(logits, encoder.engine.spec.temperature)
    return Judged(comments, p, split.emotion_targets(comments), logits, outputs["goemotions"])


def figures(data: Path) -> list[Figure]:
    """Measure every figure of the card but the times."""
    return _measure(data)[0]


def _measure(data: Path) -> tuple[list[Figure], Judged]:
    encoder = Encoder()
    dev, test = (judge(data, split.read(data, part), encoder) for part in ("dev", "test"))
    thresholds = scores.Thresholds.choose(dev.goemotions, dev.comments)
    found = _multi_label(test, thresholds) + _top_class(test)
    found += calibration_figures(test.p, test.shares, of="nine emotions, GoEmotions test", tolerance=_TOLERANCE)
    found += _elsewhere(data, encoder) + _swapped(swap(encoder)) + _development(dev, thresholds)
    return found, test


def _multi_label(test: Judged, thresholds: scores.Thresholds) -> list[Figure]:
    named = scores.Guesses.of(test.goemotions, test.comments, thresholds)
    return [
        _macro(
            "macro_f1_7", "macro-F1, Ekman's six and neutral, GoEmotions test", named.truth_7, named.guess_7,
            must=0.60, aim=0.62, floor=".568 (TF-IDF, one-vs-rest)", published="BERT-base .624 to .64",
        ),
        _macro(
            "macro_f1_28", "macro-F1, 28 labels, thresholds from dev", named.truth_28, named.guess_28,
            must=0.44, aim=0.47, tolerance=_TOLERANCE_OF_28, published="BERT-base .46 to .50 (one fixed threshold)",
        ),
    ]  # fmt: skip


def _top_class(test: Judged) -> list[Figure]:
    top = scores.TopClass.of(test.logits, test.comments)
    n = len(top.truth)
    found = [
        _macro("macro_f1_9", "macro-F1, nine emotions, comments with one emotion", top.truth, top.guess),
        _plain("accuracy_9", "accuracy, the same comments", top.accuracy, n),
        _plain("among_9", "the most probable emotion is among the comment's own", top.among, len(test.comments)),
    ]
    for name, value, here in zip(EMOTIONS, f1(top.truth, top.guess), top.truth.sum(axis=0), strict=True):
        what = f"F1 of {name}, comments with one emotion"
        found.append(_plain(f"f1_{name}", what, float(value), int(here), _TOLERANCE_OF_A_CLASS))
    return found


def _elsewhere(data: Path, encoder: Encoder) -> list[Figure]:
    meld, chats = elsewhere.read_meld(data), elsewhere.read_emocontext(data)
    seven = [elsewhere.top_of_seven(softmax(encoder.outputs(lines.texts)["logits"])) for lines in (meld, chats)]
    others = elsewhere.as_emocontext(seven[1])
    return [
        Figure(
            name="meld_weighted_f1",
            what="weighted F1, seven emotions, MELD test, a line at a time, never trained there",
            value=elsewhere.weighted_f1(meld.truth, seven[0], len(SEVEN)),
            interval=interval(
                lambda at: elsewhere.weighted_f1(meld.truth[at], seven[0][at], len(SEVEN)), len(seven[0]), _DRAWS
            ),
            tolerance=_TOLERANCE, n=len(meld.texts), floor=".562 (TF-IDF, trained there)",
            published="trained there: RoBERTa .620, COSMIC .652",
        ),
        Figure(
            name="emocontext_micro_f1",
            what="micro-F1 of happy, sad and angry, EmoContext test, third turn only, never trained there",
            value=elsewhere.micro_f1(chats.truth, others),
            interval=interval(lambda at: elsewhere.micro_f1(chats.truth[at], others[at]), len(others), _DRAWS),
            tolerance=_TOLERANCE, n=len(chats.texts),
            published="trained there, three turns: baseline .586, winner .796",
        ),
    ]  # fmt: skip


def _swapped(found: Swap) -> list[Figure]:
    what = "total variation between readings of one line about two people"
    values = {
        "swap_mean": (f"{what}, mean", found.mean),
        "swap_worst": (f"{what}, worst pair", found.worst),
        "swap_changed": ("share of such pairs whose most probable emotion differs", found.changed),
    }
    for group, value in found.by_group.items():
        kind = f"{group!r}" if group in ("she", "he", "they") else f"{group.replace('_', '-').title()} names"
        values[f"swap_{group}"] = (f"a line about {kind}: how far from everybody's reading", value)
    loose = {"swap_worst": 5 * _TOLERANCE_OF_SWAPS}
    return [
        _plain(name, text, value, found.lines, loose.get(name, _TOLERANCE_OF_SWAPS))
        for name, (text, value) in values.items()
    ]


def _development(dev: Judged, thresholds: scores.Thresholds) -> list[Figure]:
    named = scores.Guesses.of(dev.goemotions, dev.comments, thresholds)
    values = {
        "macro_f1_7_dev": ("macro-F1, Ekman's six and neutral, dev", f1(named.truth_7, named.guess_7).mean()),
        "macro_f1_28_dev": ("macro-F1, 28 labels, dev", f1(named.truth_28, named.guess_28).mean()),
        "ece_dev": ("ECE, nine emotions, dev", calibration_figures(dev.p, dev.shares, of="", tolerance=0.0)[0].value),
    }
    n = len(dev.comments)
    return [
        Figure(name=name, what=what, value=float(value), tolerance=_TOLERANCE_OF_28, n=n, choice=True)
        for name, (what, value) in values.items()
    ]


def _macro(name: str, what: str, truth: Flags, guess: Flags, *, tolerance: float = _TOLERANCE, **rest: Any) -> Figure:
    between = interval(lambda rows: float(f1(truth[rows], guess[rows]).mean()), len(truth), _DRAWS)
    value = float(f1(truth, guess).mean())
    return Figure(name=name, what=what, value=value, tolerance=tolerance, n=len(truth), interval=between, **rest)


def _plain(name: str, what: str, value: float, n: int, tolerance: float = _TOLERANCE) -> Figure:
    return Figure(name=name, what=what, value=value, tolerance=tolerance, n=n)


def speed() -> list[Figure]:
    """Measure the milliseconds of one message of 32 tokens, beside the same network in torch and onnxruntime."""
    engine = Encoder(threads=times.THREADS).engine
    ids = np.full((1, _TOKENS), _ORDINARY_WORD, dtype=np.int64)
    inputs = {"input_ids": ids, "attention_mask": np.ones_like(ids)}
    calls: dict[str, times.Call] = {times.OURS: lambda: engine.infer(inputs)}
    calls |= times.onnxruntime_call(MODELS / MODEL / "model.onnx", inputs)
    if importlib.util.find_spec("transformers") is not None:
        calls |= times.torch_call(lambda: _in_torch(ids))
    return times.figures(times.measure(calls), of=f"a message of {_TOKENS} tokens", must=_MUST_MS, aim=_AIM_MS)


def _in_torch(ids: NDArray[np.int64]) -> times.Call:
    import torch

    from models.text_affect.recipe.network import untrained

    network = untrained().eval()
    given = torch.from_numpy(ids)
    return lambda: network(given, torch.ones_like(given))


def main() -> None:
    """Run the command line."""
    given = evaluation.parser(MODEL, __doc__, "folder that holds goemotions/, meld/, emocontext/").parse_args()
    folder = MODELS / MODEL
    found, test = _measure(given.data)
    if given.write:
        found += evaluation.not_measured(folder, found)

    def draw(folder: Path) -> None:
        pictures.draw(folder, test.p, test.shares, EMOTIONS)

    evaluation.report(folder, found, draw, write=given.write)


if __name__ == "__main__":
    main()
