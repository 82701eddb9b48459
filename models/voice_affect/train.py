"""`python -m models.voice_affect.train --data DIR`: EmoDB in, the shipped ONNX, model.json and folds.csv out.

One model for each left-out speaker gives the figure of the recipe and the out-of-fold predictions in `folds.csv`; the
temperature is fitted on them. The shipped model is trained on every speaker but the demo's. Seeded; each finished fold
is kept under `--work` and not trained again, so an interrupted run resumes. CPU; minutes.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from rich.progress import track
from torch import nn

from kernels.calibration import fit_temperature
from kernels.log_mel import BANDS
from kernels.speech import FEATURES, PIECE_FRAMES, listen, stack_pieces, voice_features
from models.voice_affect.augment import distort
from models.voice_affect.corpus import LABELS, Utterance, emodb, labels, read_audio, split_pieces
from models.voice_affect.network import EMBEDDING, Voice
from models.voice_affect.scores import cross_fitted, unweighted_recall, write_folds

FOLDER = Path(__file__).resolve().parent
DEMO_SPEAKER = "13"
COPIES = 10
STEPS = 600
BATCH = 48
SMOOTHING = 0.05
SHORTEST = 70

Floats = NDArray[np.float32]
Pictures = list[list[Floats]]


def pictures(utterances: Sequence[Utterance], work: Path, seed: int) -> Pictures:
    """Utterances to each one's features: as recorded, then `COPIES` distorted copies; cached under `work`."""
    cache = work / f"features-{seed}-{COPIES}.npz"
    if not cache.exists():
        made = {}
        for i, utterance in enumerate(track(utterances, "listening")):
            samples, rng = read_audio(utterance.path), np.random.default_rng([seed, i])
            for k, version in enumerate([samples, *(distort(samples, rng) for _ in range(COPIES))]):
                made[f"{utterance.item}-{k}"] = voice_features(listen(version)).astype(np.float16)
        np.savez(cache, **made)  # type: ignore[arg-type]  # the stub knows one keyword
    with np.load(cache) as kept:
        return [[kept[f"{u.item}-{k}"] for k in range(COPIES + 1)] for u in utterances]


def crop(features: Floats, frames: int, rng: np.random.Generator) -> Floats:
    """A random stretch of at most `frames` frames; tempo, pitch and microphone varied, a band and a moment lost."""
    tempo = float(np.exp(rng.uniform(-0.2, 0.2))) if rng.random() < 0.6 else 1.0  # noqa: PLR2004 - a share of crops
    wanted = min(len(features), round(frames * tempo))
    start = rng.integers(0, len(features) - wanted + 1)
    kept = min(frames, max(round(wanted / tempo), 2))
    x = features[start + np.linspace(0, wanted - 1, kept).round().astype(int)].astype(np.float32)
    mel = x[:, :BANDS]
    across, mean = np.linspace(-1, 1, BANDS), mel.mean()
    mel += rng.normal(0, 0.05) + rng.normal(0, 0.08) * across
    mel += rng.normal(0, 0.08) * np.cos(2 * np.pi * rng.random() * across + 2 * np.pi * rng.random())
    x[:, BANDS + 1] += x[:, BANDS + 2] * rng.normal(0, 0.15)
    if rng.random() < 0.5:  # noqa: PLR2004 - a share of crops
        width = rng.integers(1, 10)
        low = rng.integers(0, BANDS - width)
        mel[:, low : low + width] = mean
    if rng.random() < 0.5:  # noqa: PLR2004 - a share of crops
        width = rng.integers(0, min(20, kept // 3) + 1)
        at = rng.integers(0, kept - width + 1)
        mel[at : at + width] = mean
        x[at : at + width, BANDS:] = 0.0
    return x


def fit(
    pool: Pictures, targets: NDArray[np.int64], rows: NDArray[np.int64], seed: int, steps: int, name: str
) -> Voice:
    """Train on `rows` of the pool, classes drawn equally often; in evaluation mode when returned."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    model = Voice()
    optimiser = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 3e-3, total_steps=steps, pct_start=0.2)
    share = 1.0 / np.bincount(targets[rows], minlength=len(LABELS))[targets[rows]]
    for _ in track(range(steps), name):
        chosen = rng.choice(rows, BATCH, p=share / share.sum())
        lengths = rng.integers(SHORTEST, PIECE_FRAMES, BATCH, endpoint=True)
        crops = [crop(pool[i][rng.integers(COPIES + 1)], n, rng) for i, n in zip(chosen, lengths, strict=True)]
        features, mask = stack_pieces(crops)
        wanted = torch.tensor(np.eye(len(LABELS), dtype=np.float32)[targets[chosen]])
        wanted = wanted * (1 - SMOOTHING) + SMOOTHING / len(LABELS)
        x, m = torch.from_numpy(features), torch.from_numpy(mask)
        loss = -(wanted * model(x, m)[0].log_softmax(1)).sum(1).mean()
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 2.0)
        optimiser.step()
        schedule.step()
    model.eval()
    return model


def read(model: Voice, features: Sequence[Floats]) -> NDArray[np.float64]:
    """Features of n whole utterances to logits (n, 4), the mean over pieces."""
    found = []
    with torch.no_grad():
        for one in features:
            x, mask = (torch.from_numpy(a) for a in stack_pieces(split_pieces(one.astype(np.float32)), PIECE_FRAMES))
            found.append(model(x, mask)[0].mean(0).double().numpy())
    return np.stack(found)


def leave_speakers_out(
    utterances: Sequence[Utterance], pool: Pictures, work: Path, seed: int, steps: int
) -> NDArray[np.float64]:
    """Logits (n, 4) of every utterance by the model that never heard its speaker; folds stay in `work`."""
    targets, speakers = labels(utterances), np.array([u.speaker for u in utterances])
    logits = np.zeros((len(utterances), len(LABELS)))
    for speaker in np.unique(speakers):
        kept, out = work / f"fold-{seed}-{speaker}.npy", np.flatnonzero(speakers == speaker)
        if not kept.exists():
            model = fit(pool, targets, np.flatnonzero(speakers != speaker), seed, steps, f"without speaker {speaker}")
            np.save(kept, read(model, [pool[i][0] for i in out]))
        logits[out] = np.load(kept)
        right = (logits[out].argmax(1) == targets[out]).mean()
        print(f"speaker {speaker} left out: {right:.3f} right of {len(out)}", flush=True)
    return logits


def export(model: Voice, path: Path) -> None:
    """The model as ONNX with a dynamic batch axis `n`."""
    example = (torch.zeros(2, PIECE_FRAMES, FEATURES), torch.ones(2, PIECE_FRAMES))
    n = torch.export.Dim("n", min=1)
    program = torch.onnx.export(
        model, example, input_names=["features", "mask"], output_names=["logits", "embedding"],
        dynamic_shapes={"features": {0: n}, "mask": {0: n}}, dynamo=True, verbose=False,
    )  # fmt: skip
    program.save(path)


def describe(path: Path, temperature: float) -> dict[str, object]:
    """What model.json says of the ONNX at `path`; the prior is uniform because training draws classes equally often."""
    return {
        "name": "voice_affect", "version": "1", "modality": "voice", "labels": list(LABELS),
        "prior": dict.fromkeys(LABELS, 1 / len(LABELS)),
        "temperature": round(temperature, 4), "licence": "free",
        "input": {"framing": "log_mel", "rate_hz": 16000, "frames": PIECE_FRAMES, "features": FEATURES},
        "outputs": {"logits": f"n x {len(LABELS)}", "embedding": f"n x {EMBEDDING}"},
        "embedding_width": EMBEDDING, "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
    }  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the recipe."""
    parser = argparse.ArgumentParser(prog="python -m models.voice_affect.train", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="the data folder, with emodb/ in it")
    parser.add_argument("--work", type=Path, default=Path("build/voice_affect"), help="features and finished folds")
    parser.add_argument("--out", type=Path, default=FOLDER, help="where the model is written")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--demo-speaker", default=DEMO_SPEAKER, help="the speaker the shipped model never hears")
    parser.add_argument("--only", choices=["folds", "model"], help="only the left-out folds, or only the shipped model")
    chosen = parser.parse_args(arguments)
    torch.set_num_threads(chosen.threads)
    for folder in (chosen.work, chosen.out):
        folder.mkdir(parents=True, exist_ok=True)
    utterances = emodb(chosen.data)
    pool, targets = pictures(utterances, chosen.work, 7), labels(utterances)
    if chosen.only != "model":
        logits = leave_speakers_out(utterances, pool, chosen.work, chosen.seed, chosen.steps)
        print(f"UAR, speakers left out: {unweighted_recall(logits, targets):.3f}")
        temperature = fit_temperature(logits, targets.astype(float))
        write_folds(chosen.out / "folds.csv", utterances, cross_fitted(logits, utterances))
        (chosen.work / "temperature").write_text(f"{temperature:.6f}")
    if chosen.only != "folds":
        kept = np.array([i for i, u in enumerate(utterances) if u.speaker != chosen.demo_speaker])
        export(fit(pool, targets, kept, chosen.seed, chosen.steps, "the shipped model"), chosen.out / "model.onnx")
    fitted = chosen.work / "temperature"
    temperature = float(fitted.read_text()) if fitted.exists() else 1.0
    if (chosen.out / "model.onnx").exists():
        spec = describe(chosen.out / "model.onnx", temperature)
        (chosen.out / "model.json").write_text(json.dumps(spec, indent=1) + "\n")


if __name__ == "__main__":
    main()
