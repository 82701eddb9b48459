"""Train on FER2013 Training with FER+ votes and write model.onnx and model.json.

`python -m models.face_affect.train --data DIR` (the `train` extra). About half an hour of one core;
every epoch is checkpointed and the command resumes where it stopped. `--export` writes the model from the last one.

The targets are vote distributions, not classes. Rare classes are drawn more often (a picture's weight is the mean over
its votes of prior ** -0.4), and the head's bias is corrected for that on export, so that
softmax(logits) has the prior of the training votes. The averaged weights (EMA) are what is evaluated and exported,
reading each face on both sides.
"""

from __future__ import annotations

import argparse
import math
import time
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from models.face_affect.recipe.augment import augment
from models.face_affect.recipe.export import export
from models.face_affect.recipe.network import FaceNet
from models.face_affect.recipe.split import Faces, load

BALANCE = 0.4
EMA = 0.997
BATCH = 128
PEAK_RATE = 0.1


class Views(Dataset[tuple[Tensor, Tensor]]):  # type: ignore[misc,unused-ignore]  # torch is untyped without it
    """Pictures and vote distributions, augmented anew each epoch; the draws depend on (seed, epoch, index) only."""

    def __init__(self, faces: Faces, seed: int, epoch: int) -> None:
        self._faces = faces
        self._rows = drawn_rows(faces, seed, epoch)
        self._seed = (seed, epoch)

    def __len__(self) -> int:
        """The number of usable training pictures."""
        return len(self._rows)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        """Return one augmented picture (uint8, 1 x 48 x 48) and its votes (float32, 7)."""
        row = self._rows[index]
        image = augment(self._faces.images[row], np.random.default_rng([*self._seed, index]))
        return torch.from_numpy(np.ascontiguousarray(image)[None]), torch.from_numpy(self._faces.votes[row])


def usable(faces: Faces) -> NDArray[np.int64]:
    """List the rows of `train` in which some class has two votes or more."""
    rows = faces.where("train")
    return np.asarray(rows[faces.votes[rows].sum(1) > 0])


def weights(faces: Faces) -> NDArray[np.float64]:
    """Return how often each usable row is drawn; the sum is 1."""
    votes = faces.votes[usable(faces)].astype(np.float64)
    weight = votes @ votes.mean(0) ** -BALANCE
    return np.asarray(weight / weight.sum())


def drawn_rows(faces: Faces, seed: int, epoch: int) -> NDArray[np.int64]:
    """Draw an epoch's rows by systematic sampling: a row's count differs by less than one from its expectation."""
    rng = np.random.default_rng([seed, epoch, 1])
    rows, edges = usable(faces), weights(faces).cumsum()
    at = (np.arange(len(rows)) + rng.random()) / len(rows)
    return np.asarray(rng.permutation(rows[np.searchsorted(edges, at).clip(max=len(rows) - 1)]))


def accuracy(net: nn.Module, faces: Faces, rows: NDArray[np.int64]) -> float:
    """Measure the share of rows whose most voted class the network predicts, from the unmirrored picture."""
    net.eval()
    rows = rows[faces.plurality[rows] >= 0]
    with torch.inference_mode():
        parts = [net(torch.from_numpy(faces.images[b, None]).float())[0].argmax(1) for b in np.array_split(rows, 20)]
    return float((torch.cat(parts).numpy() == faces.plurality[rows]).mean())


def rate(progress: float) -> float:
    """Return the learning rate at a share of the training in [0, 1): a linear rise for 15 %, then half a cosine.

    It depends on nothing else, so a training can be resumed with more or fewer epochs.
    """
    rise = 0.15
    if progress < rise:
        return PEAK_RATE * (0.1 + 0.9 * progress / rise)
    return PEAK_RATE * (0.001 + 0.999 * 0.5 * (1 + math.cos(math.pi * (progress - rise) / (1 - rise))))


def average(ema: nn.Module, net: nn.Module, decay: float) -> None:
    """Move `ema`'s weights and statistics towards `net`'s."""
    with torch.no_grad():
        for old, new in zip(ema.state_dict().values(), net.state_dict().values(), strict=True):
            if old.dtype.is_floating_point:
                old.lerp_(new, 1 - decay)
            else:
                old.copy_(new)


def train(faces: Faces, work: Path, *, epochs: int, seed: int, device: str) -> FaceNet:
    """Train and return the averaged network; `work/last.pt` is the checkpoint, from which training resumes."""
    torch.manual_seed(seed)
    net = FaceNet().to(device)
    ema: FaceNet = FaceNet().to(device)
    ema.load_state_dict(net.state_dict())
    decay = [{"params": [p for p in net.parameters() if p.ndim > 1]}]
    decay.append({"params": [p for p in net.parameters() if p.ndim <= 1], "weight_decay": 0.0})  # type: ignore[dict-item]  # torch's own form
    optimiser = torch.optim.SGD(decay, lr=PEAK_RATE, momentum=0.9, nesterov=True, weight_decay=5e-4)
    steps = len(usable(faces)) // BATCH
    first, last = 0, work / "last.pt"
    if last.exists():
        state = torch.load(last, map_location=device)
        for name, part in (("net", net), ("ema", ema), ("optimiser", optimiser)):
            part.load_state_dict(state[name])
        first = state["epoch"] + 1
    for epoch in range(first, epochs):
        net.train()
        start, total = time.monotonic(), 0.0
        batches = DataLoader(Views(faces, seed, epoch), BATCH, num_workers=1, drop_last=True)
        for step, (images, votes) in enumerate(batches):
            with torch.autocast(device, torch.bfloat16):
                logits, _ = net(images.to(device).float())
            loss = nn.functional.cross_entropy(logits.float(), votes.to(device))
            for group in optimiser.param_groups:
                group["lr"] = rate((epoch * steps + step) / (epochs * steps))
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(net.parameters(), 5.0)
            optimiser.step()
            average(ema, net, min(EMA, (1 + epoch * steps + step) / (10 + epoch * steps + step)))
            total += loss.item()
            if step % 50 == 0:
                print(
                    f"\repoch {epoch + 1}/{epochs} step {step}/{steps} loss {total / (step + 1):.4f}",
                    end="",
                    flush=True,
                )
        right = accuracy(ema.cpu(), faces, faces.where("public"))
        ema.to(device)
        took_s = time.monotonic() - start
        print(f"\repoch {epoch + 1}/{epochs} loss {total / steps:.4f} public {right:.4f} s {took_s:.0f}", flush=True)
        state = {"net": net, "ema": ema, "optimiser": optimiser}
        torch.save({"epoch": epoch} | {name: part.state_dict() for name, part in state.items()}, work / "next.pt")
        (work / "next.pt").replace(last)
    return ema


def main() -> None:
    """Run the command line."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--data", type=Path, required=True, help="the folder that holds fer2013/")
    options.add_argument("--work", type=Path, default=Path("build/face_affect"), help="checkpoints")
    options.add_argument("--epochs", type=int, default=23)
    options.add_argument("--seed", type=int, default=1)
    options.add_argument("--threads", type=int, default=1, help="more than the free cores is slower than one")
    options.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    options.add_argument("--export", action="store_true", help="write the model from the last checkpoint and stop")
    options.add_argument("--out", type=Path, default=Path(__file__).parent)
    given = options.parse_args()
    torch.set_num_threads(given.threads)
    given.work.mkdir(parents=True, exist_ok=True)
    faces = load(given.data)
    if given.export:
        net = FaceNet()
        net.load_state_dict(torch.load(given.work / "last.pt", map_location="cpu")["ema"])
    else:
        net = train(faces, given.work, epochs=given.epochs, seed=given.seed, device=given.device)
        net.cpu()
    votes = faces.votes[usable(faces)].astype(np.float64)
    export(net, faces, given.out, prior=votes.mean(0), drawn=weights(faces) @ votes)


if __name__ == "__main__":
    main()
