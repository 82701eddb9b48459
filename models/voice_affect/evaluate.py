"""`python -m models.voice_affect.evaluate --data DIR`: the card's figures again, from folds.csv and the ONNX.

Needs no torch. The figure of the recipe comes from folds.csv: models that are not shipped, each judged on the speaker
it never heard. The shipped ONNX is judged on what it has not heard either: the demo's speaker, and RAVDESS actors 1-16
(another language, other microphones), each recording cut to where webrtcvad hears speech.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kernels.calibration import softmax
from kernels.engines import Engine, load
from kernels.log_mel import RATE_HZ
from kernels.speech import listen, stack_pieces, voice_features
from models.voice_affect.corpus import LABELS, Utterance, emodb, labels, ravdess, read_audio, split_pieces
from models.voice_affect.scores import calibration, confusion, over_speakers, read_folds, recalls, unweighted_recall

FOLDER = Path(__file__).resolve().parent
DEMO_SPEAKER = "13"
_FRAME = 480
_MARGIN = 3

Floats = NDArray[np.float32]


def speech_only(samples: Floats) -> Floats:
    """Samples (n,) from the first to the last 30 ms frame that webrtcvad calls speech, and 90 ms around."""
    import webrtcvad  # noqa: PLC0415 - compiled code, needed only here

    detector = webrtcvad.Vad(2)
    pcm = np.clip(np.round(samples * 32768), -32768, 32767).astype("<i2")
    frames = len(pcm) // _FRAME
    heard = [i for i in range(frames) if detector.is_speech(pcm[i * _FRAME : (i + 1) * _FRAME].tobytes(), RATE_HZ)]
    return samples[max(0, heard[0] - _MARGIN) * _FRAME : (heard[-1] + 1 + _MARGIN) * _FRAME] if heard else samples


def read(engine: Engine, utterances: Sequence[Utterance]) -> NDArray[np.float64]:
    """Utterances to p (n, classes): the mean of logits over pieces of at most 3 s, by the model's temperature."""
    logits = []
    for utterance in utterances:
        sound = listen(speech_only(read_audio(utterance.path)))
        features, mask = stack_pieces(split_pieces(voice_features(sound)))
        logits.append(engine.infer({"features": features, "mask": mask})["logits"].mean(axis=0))
    return softmax(np.array(logits), engine.spec.temperature)


def figures(p: NDArray[np.float64], utterances: Sequence[Utterance]) -> dict[str, Any]:
    """Probabilities and their utterances to every figure of the card."""
    targets, groups = labels(utterances), np.array([u.group for u in utterances])
    return {
        "n": len(utterances),
        "uar": unweighted_recall(p, targets),
        "uar_interval_over_speakers": over_speakers(p, targets, [u.speaker for u in utterances]),
        "recall": dict(zip(LABELS, recalls(p, targets).tolist(), strict=True)),
        "uar_by_group": {g: unweighted_recall(p[groups == g], targets[groups == g]) for g in ("f", "m") if g in groups},
        "confusion": confusion(p, targets).tolist(),
        **asdict(calibration(p, targets)),
    }


def latency_ms(engine: Engine, repeats: int = 50) -> dict[str, float]:
    """Median milliseconds for a piece of 3 s, batch 1: of its features, and of the network."""
    samples = np.random.default_rng(0).normal(0, 0.1, 3 * RATE_HZ).astype(np.float32)
    spent = []
    for _ in range(repeats + 5):
        begun = time.perf_counter()
        features, mask = stack_pieces(split_pieces(voice_features(listen(samples))))
        heard = time.perf_counter()
        engine.infer({"features": features, "mask": mask})
        spent.append((heard - begun, time.perf_counter() - heard))
    median = np.median(np.array(spent[5:]) * 1000, axis=0)
    return {"features": float(median[0]), "network": float(median[1])}


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the figures; `--json` writes them too."""
    parser = argparse.ArgumentParser(prog="python -m models.voice_affect.evaluate", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="the data folder, with emodb/ and ravdess/ in it")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", type=Path, help="write the figures here")
    chosen = parser.parse_args(arguments)
    engine, german = load("voice_affect", threads=chosen.threads), emodb(chosen.data)
    targets, speakers = labels(german), [u.speaker for u in german]
    p = read_folds(FOLDER / "folds.csv", german)
    found: dict[str, Any] = {"speakers left out": figures(p, german)}
    svm = FOLDER / "folds_svm.csv"
    if svm.exists():
        other = read_folds(svm, german)
        found["statistics + SVM"] = {
            "uar": unweighted_recall(other, targets),
            "lead_of_the_network_over_speakers": over_speakers(p, targets, speakers, other),
        }
    unheard = [u for u in german if u.speaker == DEMO_SPEAKER]
    found["shipped model, the demo's speaker"] = figures(read(engine, unheard), unheard)
    if (chosen.data / "ravdess" / "index.csv").exists():
        english = ravdess(chosen.data)
        found["shipped model, RAVDESS actors 1-16"] = figures(read(engine, english), english)
    found["latency_ms"] = latency_ms(engine)
    for name, values in found.items():
        print(name)
        for key, value in values.items():
            print(f"  {key}: {_short(value)}")
    if chosen.json:
        chosen.json.write_text(json.dumps(found, indent=1) + "\n")


def _short(value: Any) -> Any:
    if isinstance(value, float):
        return round(value, 4)
    if isinstance(value, dict):
        return {key: _short(one) for key, one in value.items()}
    return [_short(one) for one in value] if isinstance(value, list | tuple) else value


if __name__ == "__main__":
    main()
