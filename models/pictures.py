"""Draw a card's picture: reliability diagram, confusion matrix and risk-coverage curve; or estimates against ratings.

Drawn by `evaluate --write` with matplotlib (extra `train`); one version of it writes the same bytes for the same input.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kernels import scores
from kernels.scores import Floats, Ints

PICTURE = "figures.svg"
_INK, _SOFT, _LINE, _BLUE, _BAND, _EDGE = "#24292f", "#57606a", "#8c959f", "#1f6feb", "#dbe9f9", "#d0d7de"
_STYLE = {
    "svg.hashsalt": "affectstream", "svg.fonttype": "path", "font.family": "DejaVu Sans", "font.size": 9.0,
    "axes.titlesize": 10.0, "axes.titleweight": "bold", "axes.edgecolor": _EDGE, "axes.labelcolor": _INK,
    "text.color": _INK, "xtick.color": _INK, "ytick.color": _INK, "xtick.labelsize": 8.0, "ytick.labelsize": 8.0,
    "axes.spines.top": False, "axes.spines.right": False,
}  # fmt: skip
_CURVE: dict[str, Any] = {"color": _BLUE, "linewidth": 1.5}
_HIGH, _LEFT, _ABOVE, _MARGIN = 3.0, 0.6, 0.5, 0.2  # inches
_DRAWS = 2000
_DARK = 0.5


@dataclass(frozen=True, slots=True)
class Reliability:
    """Ten bins of equal mass: mean confidence, accuracy, and the 95 % band of a perfect calibrator; each (b,)."""

    confidence: NDArray[np.float64]
    accuracy: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]


def draw(folder: Path, p: Floats, truth: Ints | Floats, labels: Sequence[str]) -> Path:
    """Draw reliability, confusion and risk-coverage side by side into the folder's `figures.svg`.

    Reliability is that of the most probable class. Each row of the confusion, a true class, adds up to 1; counts are
    below the shares. Risk is the error rate when only the most confident items are answered.

    Args:
        folder: where the picture is written.
        p: probabilities (n, k).
        truth: classes (n,), or shares (n, k), of which one class is drawn for each item (`scores.one_class`).
        labels: the names of the k classes.
    """
    named, guess = scores.one_class(truth), p.argmax(axis=1)
    longest = 0.075 * max(map(len, labels))
    panels = [(_LEFT, _HIGH), (0.55 + longest, max(_HIGH, 0.42 * len(labels))), (0.75, _HIGH)]
    with _figure(panels, under=0.5 + 0.64 * longest) as (figure, (left, middle, right)):
        _draw_reliability(left, p, truth)
        _draw_confusion(middle, scores.confusion(named, guess, len(labels)), labels)
        _draw_risk(right, p.max(axis=1), guess == named)
        return _save(figure, folder)


def draw_rated(folder: Path, guess: Floats, rated: Floats, dimensions: Sequence[str]) -> Path:
    """Draw a density plot of estimates (n, d) against ratings (n, d) for each of d dimensions into `figures.svg`.

    On the dashed line estimate and rating agree; r is Pearson's.
    """
    with _figure([(_LEFT, _HIGH)] * len(dimensions)) as (figure, axes):
        for at, (one, name) in enumerate(zip(axes, dimensions, strict=True)):
            edge = float(np.abs(np.concatenate([guess[:, at], rated[:, at]])).max()) * 1.05
            one.plot([-edge, edge], [-edge, edge], color=_LINE, linewidth=1, linestyle=(0, (4, 3)), zorder=3)
            one.hexbin(
                guess[:, at], rated[:, at], gridsize=28, extent=(-edge, edge, -edge, edge), mincnt=1,
                cmap=_blues("#cfe1f7"), edgecolors="none", bins="log",
            )  # fmt: skip
            one.set(xlim=(-edge, edge), ylim=(-edge, edge), xlabel="estimated", ylabel="rated" if at == 0 else "")
            one.set_aspect("equal")
            r = np.corrcoef(guess[:, at], rated[:, at])[0, 1]
            one.set_title(f"{name}: r {r:.3f} of {len(rated):,}", loc="left")
        return _save(figure, folder)


def draw_shares(folder: Path, shares: Mapping[str, Mapping[str, float]], what: str) -> Path:
    """Draw bars of shares in [0, 1] into `figures.svg`: for each named row one bar of each series.

    Args:
        folder: where the picture is written.
        shares: series name to row name to share; every series has the same rows.
        what: the axis' label.
    """
    rows = list(next(iter(shares.values())))
    longest = 0.075 * max(map(len, rows))
    with _figure([(0.2 + longest, 4.5)], high=0.16 * len(rows) + 0.3) as (figure, (axes,)):
        thick = 0.8 / len(shares)
        for at, (series, found) in enumerate(shares.items()):
            places = [n + at * thick for n in range(len(rows))]
            colour = (_LINE, _BLUE)[at % 2]
            axes.barh(places, [found[row] for row in rows], height=thick, color=colour, label=series)
        axes.set_yticks([n + 0.4 - thick / 2 for n in range(len(rows))], rows)
        axes.set(xlim=(0, 1), xlabel=what)
        axes.invert_yaxis()
        axes.legend(loc="lower right", frameon=True, fontsize=8)
        return _save(figure, folder)


def reliability(p: Floats, truth: Ints | Floats) -> Reliability:
    """Sort items into ten bins by the top class's probability; `p` (n, k) and truth as in `scores.calibration`."""
    top, correct = p.max(axis=1), p.argmax(axis=1) == scores.one_class(truth)
    order = np.argsort(top, kind="stable")
    parts = [part for part in np.array_split(np.arange(len(p)), scores.BINS) if len(part)]
    starts, sizes = [part[0] for part in parts], np.array([len(part) for part in parts])
    confidences, rng = top[order], np.random.default_rng(0)
    drawn = [np.add.reduceat(rng.random(len(p)) < confidences, starts, dtype=np.float64) for _ in range(_DRAWS)]
    low, high = np.quantile(np.array(drawn) / sizes, [0.025, 0.975], axis=0)
    confidence, accuracy = (np.add.reduceat(v[order], starts, dtype=np.float64) / sizes for v in (top, correct))
    return Reliability(confidence, accuracy, low, high)


def risks(confidence: Floats, correct: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return the error rate of the most confident 1, 2, ... n items (n,), from `confidence` (n,) and `correct` (n,).

    Ties share their mean risk, so that the order of the items doesn't matter. The mean is the area under the
    risk-coverage curve (Geifman & El-Yaniv, NeurIPS 2017).
    """
    order = np.argsort(-confidence, kind="stable")
    _, ties = np.unique(-confidence[order], return_inverse=True)
    of_tie = np.bincount(ties, ~correct[order]) / np.bincount(ties)
    return np.asarray(np.cumsum(of_tie[ties]) / np.arange(1, len(correct) + 1))


def _draw_reliability(axes: Any, p: Floats, truth: Ints | Floats) -> None:
    bins, found = reliability(p, truth), scores.calibration(p, truth)
    axes.plot([0, 1], [0, 1], color=_LINE, linewidth=1, linestyle=(0, (4, 3)))
    axes.fill_between(
        bins.confidence, bins.low, bins.high, color=_BAND, linewidth=0, label="a perfect calibrator, 95 %"
    )
    axes.plot(bins.confidence, bins.accuracy, label="this model", clip_on=False, **_CURVE, marker="o", markersize=4)
    low, high = found.band
    axes.set(xlim=(0, 1), ylim=(0, 1), xlabel="confidence", ylabel="share right")
    axes.set_title(f"reliability: ECE {found.ece:.3f}\n", loc="left")
    axes.text(0, 1.03, f"a perfect calibrator's: {low:.3f} to {high:.3f}", transform=axes.transAxes, color=_SOFT)
    axes.legend(loc="upper left", frameon=False, fontsize=8)


def _draw_confusion(axes: Any, counts: NDArray[np.int64], labels: Sequence[str]) -> None:
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    axes.pcolormesh(shares, cmap=_blues(), vmin=0, vmax=1, edgecolors="white", linewidth=1)
    for row, column in np.ndindex(*counts.shape):
        if counts[row, column]:
            colour, share = ("white" if shares[row, column] > _DARK else _INK), shares[row, column]
            style = {"ha": "center", "va": "center", "color": colour}
            axes.text(column + 0.5, row + 0.42, f"{share:.2f}".removeprefix("0"), fontsize=8, **style)
            axes.text(column + 0.5, row + 0.74, f"{counts[row, column]:,}", fontsize=5.5, **style)
    ticks = np.arange(len(labels)) + 0.5
    axes.set_xticks(ticks, labels, rotation=40, ha="right", rotation_mode="anchor")
    axes.set_yticks(ticks, labels)
    axes.invert_yaxis()
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.set(xlabel="named", ylabel="true")
    right = float(np.trace(counts) / max(counts.sum(), 1))
    axes.set_title(f"confusion: {right:.3f} right of {counts.sum():,}\n", loc="left")
    axes.text(0, 1.03, "rows add up to 1, counts small", transform=axes.transAxes, color=_SOFT)


def _draw_risk(axes: Any, confidence: Floats, correct: NDArray[np.bool_]) -> None:
    curve = risks(confidence, correct)
    shares = np.arange(1, len(curve) + 1) / len(curve)
    drawn = np.unique(np.linspace(0, len(curve) - 1, 250).astype(int))
    axes.axhline(curve[-1], color=_LINE, linewidth=1, linestyle=(0, (4, 3)))
    axes.plot(shares[drawn], curve[drawn], **_CURVE)
    for share in (0.5, 0.8):
        at = max(round(share * len(curve)) - 1, 0)
        axes.plot(shares[at], curve[at], color=_BLUE, marker="o", markersize=4)
        axes.annotate(f"{curve[at]:.3f}", (shares[at], curve[at]), (4, -11), textcoords="offset points", fontsize=8)
    axes.set(xlim=(0, 1), ylim=(0, max(float(curve.max()) * 1.15, 0.05)))
    axes.set(xlabel="share answered, the surest first", ylabel="error rate")
    axes.set_title(f"risk and coverage: area {curve.mean():.3f}\n", loc="left")
    axes.text(0, 1.03, f"all answered: {curve[-1]:.3f}", transform=axes.transAxes, color=_SOFT)


def _blues(start: str = "#f6f8fa") -> Any:
    from matplotlib.colors import LinearSegmentedColormap

    return LinearSegmentedColormap.from_list("blues", [start, "#9ec5f4", _BLUE, "#0a3069"])


@contextmanager
def _figure(
    panels: Sequence[tuple[float, float]], under: float = 0.5, high: float = _HIGH
) -> Iterator[tuple[Any, Sequence[Any]]]:
    """Make a figure on white (readable on a dark page too) with axes in a row; the style applies inside the `with`.

    `panels` gives, in inches, the margin left of each axes and their width; `under` is the margin below, `high` the
    height of the axes. No layout
    solver is used: its last digits differ from run to run.
    """
    try:
        import matplotlib
        from matplotlib.figure import Figure
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError("pictures are drawn by matplotlib: pip install -e '.[train]'") from error
    wide, whole = sum(map(sum, panels)) + _MARGIN, under + high + _ABOVE
    with matplotlib.rc_context(_STYLE):
        figure, axes, at = Figure(figsize=(wide, whole), facecolor="white"), [], 0.0
        for margin, width in panels:
            axes.append(figure.add_axes(((at + margin) / wide, under / whole, width / wide, high / whole)))
            at += margin + width
        yield figure, axes


def _save(figure: Any, folder: Path) -> Path:
    path = folder / PICTURE
    figure.savefig(path, format="svg", metadata={"Date": None, "Creator": None})
    return path
