"""Train and export voice networks: what the recipes of `voice_affect` and `voice_affect_nc` share.

Seeded. Every finished network is stored in the work folder and not trained again, so an interrupted run resumes.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rich.progress import track
from torch import Tensor, nn

from kernels.voice.audio_files import read_audio
from kernels.voice.log_mel import BANDS
from kernels.voice.speech import FEATURES, PIECE_FRAMES, stack_pieces, track_pitch, voice_features
from models.voice_affect.recipe.augment import distort
from models.voice_affect.recipe.corpus import Utterance, labels, split_pieces
from models.voice_affect.recipe.network import EMBEDDING, Together, Voice

Floats = NDArray[np.float32]
FeatureVersions = list[list[Floats]]
"""Features (frames, 67) of n utterances, each as recorded and in several distorted copies."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """Shape and training of a network.

    `clean` is how often a recording is drawn as recorded, else as one of `copies`. `mixing` is how often a batch is
    mixed with itself in another order, features and targets alike (mixup with Beta(.3, .3); Zhang et al., ICLR 2018).
    """

    classes: tuple[str, ...]
    steps: int
    copies: int
    clean: float
    mixing: float
    width: int = 96
    dilations: tuple[int, ...] = (2, 3, 5)
    dropout: float = 0.25
    batch: int = 32
    smoothing: float = 0.05
    shortest: int = 70
    peak_rate: float = 3e-3

    def network(self) -> Voice:
        """Make an untrained network of this shape."""
        return Voice(len(self.classes), self.width, self.dilations, self.dropout)


def feature_versions(
    utterances: Sequence[Utterance], work: Path, copies: int, cut: Callable[[Floats], Floats] = np.asarray
) -> FeatureVersions:
    """Compute each utterance's features, as recorded and `cut`, then of distorted copies; cached in `work`."""
    cache = work / f"features-{len(utterances)}-{copies}.npz"
    if not cache.exists():
        made = {}
        for utterance in track(utterances, "listening"):
            samples, rng = cut(read_audio(utterance.path)), np.random.default_rng([11, int(utterance.item[:8], 16)])
            for k, version in enumerate([samples, *(distort(samples, rng) for _ in range(copies))]):
                made[f"{utterance.item}-{k}"] = voice_features(track_pitch(version)).astype(np.float16)
        np.savez(cache, **made)  # type: ignore[arg-type]  # the stub knows one keyword
    with np.load(cache) as cached:
        return [[cached[f"{u.item}-{k}"] for k in range(copies + 1)] for u in utterances]


def crop(features: Floats, frames: int, rng: np.random.Generator) -> Floats:
    """Cut out at most `frames` random frames; vary tempo, pitch and microphone, mask a band and a moment."""
    tempo = float(np.exp(rng.uniform(-0.2, 0.2))) if rng.random() < 0.6 else 1.0  # noqa: PLR2004 - a share of crops
    wanted = min(len(features), round(frames * tempo))
    start = rng.integers(0, len(features) - wanted + 1)
    length = min(frames, max(round(wanted / tempo), 2))
    x = features[start + np.linspace(0, wanted - 1, length).round().astype(int)].astype(np.float32)
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
        width = rng.integers(0, min(20, length // 3) + 1)
        at = rng.integers(0, length - width + 1)
        mel[at : at + width] = mean
        x[at : at + width, BANDS:] = 0.0
    return x


def fit(
    recipe: Recipe,
    pool: FeatureVersions,
    targets: NDArray[np.int64],
    share: NDArray[np.floating],
    seed: int,
    path: Path,
) -> Voice:
    """Train a network, or read it from `path` if that exists; it is returned in evaluation mode.

    Args:
        recipe: shape and training.
        pool: features of n utterances.
        targets: their classes (n,).
        share: how often each utterance is drawn (n,), up to a factor.
        seed: of weights and draws.
        path: where the weights are stored.
    """
    torch.manual_seed(seed)
    rng, model = np.random.default_rng(seed), recipe.network()
    if path.exists():
        model.load_state_dict(torch.load(path, weights_only=True))
        model.eval()
        return model
    torch.set_num_threads(1)  # sums of several threads round in another order, and another network comes of it
    model.train()
    optimiser = torch.optim.AdamW(model.parameters(), lr=recipe.peak_rate, weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, recipe.peak_rate, total_steps=recipe.steps, pct_start=0.2)
    hot = np.eye(len(recipe.classes), dtype=np.float32)[targets]
    hot = hot * (1 - recipe.smoothing) + recipe.smoothing / len(recipe.classes)
    for _ in track(range(recipe.steps), path.stem):
        chosen = rng.choice(len(pool), recipe.batch, p=share / share.sum())
        frames = int(rng.integers(recipe.shortest, PIECE_FRAMES, endpoint=True))
        versions = np.where(rng.random(len(chosen)) < recipe.clean, 0, rng.integers(1, recipe.copies + 1, len(chosen)))
        crops = [crop(pool[i][k], frames, rng) for i, k in zip(chosen, versions, strict=True)]
        x, mask = (torch.from_numpy(a) for a in stack_pieces(crops, frames + frames % 2))
        wanted = torch.from_numpy(hot[chosen])
        if rng.random() < recipe.mixing:
            x, mask, wanted = mixed(x, mask, wanted, rng)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            logits = model(x, mask)[0].float()
        loss = -(wanted * logits.log_softmax(1)).sum(1).mean()
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 2.0)
        optimiser.step()
        schedule.step()
    torch.save(model.state_dict(), path)
    model.eval()
    return model


def mixed(x: Tensor, mask: Tensor, wanted: Tensor, rng: np.random.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Mix each item of a batch with another one, features, mask and targets, by the same share."""
    share, order = float(rng.beta(0.3, 0.3)), torch.from_numpy(rng.permutation(len(x)))
    both = [share * one + (1 - share) * one[order] for one in (x, wanted)]
    return both[0], torch.maximum(mask, mask[order]), both[1]


def predict(model: nn.Module, features: Sequence[Floats]) -> NDArray[np.float64]:
    """Compute the logits (n, classes) of n full utterances, means over pieces of at most 3 s."""
    found = []
    with torch.no_grad():
        for one in features:
            x, mask = (torch.from_numpy(a) for a in stack_pieces(split_pieces(one.astype(np.float32)), PIECE_FRAMES))
            found.append(model(x, mask)[0].mean(0).double().numpy())
    return np.stack(found)


def out_of_fold(
    recipe: Recipe,
    utterances: Sequence[Utterance],
    folds: Sequence[str],
    pool: FeatureVersions,
    share: Callable[[NDArray[np.int64]], NDArray[np.floating]],
    seed: int,
    work: Path,
    only: str | None = None,
) -> NDArray[np.float64]:
    """Train one network for each fold without it, and return the out-of-fold logits (n, classes).

    Args:
        recipe: shape and training.
        utterances: the recordings (n).
        folds: the fold that each is judged in (n); "": in none, always trained on. Its logits are NaN.
        pool: their features.
        share: from the rows trained on, how often each is drawn.
        seed: of weights and draws.
        work: where finished networks are stored.
        only: train for this fold alone; the logits of the others are NaN.
    """
    targets, names = labels(utterances), np.array(folds)
    logits = np.full((len(utterances), len(recipe.classes)), np.nan)
    for fold in np.unique(names[names != ""]) if only is None else [only]:
        rows, out = np.flatnonzero(names != fold), np.flatnonzero(names == fold)
        model = fit(
            recipe, [pool[i] for i in rows], targets[rows], share(rows), seed, work / f"without-{fold}-seed-{seed}.pt"
        )
        logits[out] = predict(model, [pool[i][0] for i in out])
        print(f"seed {seed}, {fold} left out: {(logits[out].argmax(1) == targets[out]).mean():.3f} right", flush=True)
    return logits


def evenly(targets: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return how often to draw each row so that every class is drawn equally often, from the classes (n,)."""
    return 1.0 / np.bincount(targets)[targets]


def network_of(folder: Path) -> nn.Module:
    """Make untrained networks of the shape in a folder's model.json, as one module, to measure its speed with."""
    spec = json.loads((folder / "model.json").read_text(encoding="utf-8"))
    shape, classes = spec["network"], int(spec["outputs"]["logits"].removeprefix("n x "))
    members = [Voice(classes, shape["width"], shape["dilations"]) for _ in range(shape["members"])]
    return Together(members).eval()


def export(members: Sequence[Voice], path: Path) -> None:
    """Write networks as one ONNX file with a dynamic batch axis `n`."""
    example = (torch.zeros(2, PIECE_FRAMES, FEATURES), torch.ones(2, PIECE_FRAMES))
    n = torch.export.Dim("n", min=1)
    program = torch.onnx.export(
        Together(members).eval(), example, input_names=["features", "mask"], output_names=["logits", "embedding"],
        dynamic_shapes={"features": {0: n}, "mask": {0: n}}, dynamo=True, verbose=False,
    )  # fmt: skip
    program.save(path)


def describe(path: Path, recipe: Recipe, temperature: float, members: int, fields: Mapping[str, Any]) -> None:
    """Write the model.json beside the ONNX at `path`; `fields` adds name, version, labels, prior, licence, classes."""
    spec = {
        **fields,
        "modality": "voice",
        "temperature": round(temperature, 4),
        "input": {"framing": "log_mel", "rate_hz": 16000, "frames": PIECE_FRAMES, "features": FEATURES},
        "outputs": {"logits": f"n x {len(recipe.classes)}", "embedding": f"n x {EMBEDDING}"},
        "network": {"members": members, "width": recipe.width, "dilations": recipe.dilations},
        "embedding_width": EMBEDDING,
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
    }
    path.with_name("model.json").write_text(json.dumps(spec, indent=1) + "\n", encoding="utf-8")
