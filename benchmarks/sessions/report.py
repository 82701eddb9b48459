"""Score the predictions of each system by kind of segment and write the scores as a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from benchmarks.sessions.segments import Segment
from benchmarks.sessions.statistics import (
    Calibration,
    Difference,
    Interval,
    Prediction,
    RiskCoverage,
    calibration,
    macro_f1_interval,
    paired_difference,
    risk_coverage,
)
from kernels.emotions import SEVEN

KINDS = ("all", "agree", "conflict", "missing")
FUSED = "fused"
MARGIN = 0.03
"""Fused is not below the best single modality where the lower bound of their difference is above -MARGIN."""


@dataclass(frozen=True, slots=True)
class KindResult:
    """The scores on one kind of segment: macro-F1 and abstentions by system, and fused minus the best single modality.

    The best single modality is the one with the greatest macro-F1 on these very segments, so the comparison favours it.
    """

    segments: int
    macro_f1: dict[str, Interval]
    abstained: dict[str, int]
    best_single: str
    fused_minus_best: Difference


@dataclass(frozen=True, slots=True)
class Result:
    """Everything that is reported.

    `recall` is that of the fused estimate by true emotion over all segments. `calibration` is over the fused estimates
    of segments, `of_finals` over single finals; the mean over a segment is less extreme than single finals are.
    """

    kinds: dict[str, KindResult]
    recall: dict[str, float]
    calibration: Calibration
    of_finals: Calibration
    risk_coverage: dict[str, RiskCoverage]


def judge(
    predictions: Mapping[str, Sequence[Prediction]],
    segments: Mapping[str, Sequence[Segment]],
    each: Sequence[Prediction] = (),
) -> Result:
    """Score every system on all segments and on each kind that occurs; `each` are the predictions of single finals."""
    flat = [segment for listed in segments.values() for segment in listed]
    kinds = {}
    for kind in KINDS:
        chosen = [i for i, segment in enumerate(flat) if kind in ("all", segment.kind)]
        if chosen:
            kinds[kind] = _judge_kind({name: [p[i] for i in chosen] for name, p in predictions.items()})
    fused = predictions[FUSED]
    recall = {
        emotion: sum(p.correct for p in fused if p.truth == emotion) / total
        for emotion in SEVEN
        if (total := sum(p.truth == emotion for p in fused))
    }
    risks = {name: risk_coverage(p) for name, p in predictions.items()}
    return Result(kinds, recall, calibration(fused), calibration(each), risks)


def below_best_single(result: Result) -> list[str]:
    """The kinds of segments for which the interval of fused minus best single reaches down to -`MARGIN` or lower."""
    return [kind for kind, found in result.kinds.items() if found.fused_minus_best.low <= -MARGIN]


def _judge_kind(predictions: Mapping[str, Sequence[Prediction]]) -> KindResult:
    scores = {name: macro_f1_interval(each, SEVEN) for name, each in predictions.items()}
    best = max((name for name in scores if name != FUSED), key=lambda name: scores[name].value)
    return KindResult(
        len(predictions[FUSED]),
        scores,
        {name: sum(p.predicted is None for p in each) for name, each in predictions.items()},
        best,
        paired_difference(predictions[FUSED], predictions[best], SEVEN),
    )


def table(result: Result) -> str:
    """Write the result as lines of text; the macro-F1 part is a Markdown table."""
    systems = list(next(iter(result.kinds.values())).macro_f1)
    lines = [
        "macro-F1 over seven classes, 95 % bootstrap interval over sessions; (n) abstained, which counts as wrong",
        f"| segments | {' | '.join(systems)} | fused - best single |",
        f"|---|{'---|' * (len(systems) + 1)}",
    ]
    for kind, found in result.kinds.items():
        cells = [f"{_interval(found.macro_f1[s])} ({found.abstained[s]})" for s in systems]
        gap = found.fused_minus_best
        sign = f"{gap.value:+.3f} [{gap.low:+.3f}, {gap.high:+.3f}] to {found.best_single}, > 0 in {gap.above_zero:.0%}"
        lines.append(f"| {kind} ({found.segments}) | {' | '.join(cells)} | {sign} |")
    below = below_best_single(result)
    lines.append(
        f"fused not below the best single modality (lower bound above -{MARGIN}): "
        + ", ".join(f"{kind} {'NO' if kind in below else 'yes'}" for kind in result.kinds)
    )
    lines.append("recall, fused: " + ", ".join(f"{name} {value:.2f}" for name, value in result.recall.items()))
    c = result.calibration
    lines.append(
        f"calibration, fused: ECE {c.ece:.3f} (a perfect model shows {c.perfect_low:.3f}-{c.perfect_high:.3f})"
    )
    lines.append("  confidence " + " ".join(f"{b.confidence:5.2f}" for b in c.bins))
    lines.append("  accuracy   " + " ".join(f"{b.accuracy:5.2f}" for b in c.bins))
    lines.append(f"calibration, single finals: ECE {result.of_finals.ece:.3f} (they overlap in time: no band)")
    lines.append("error rate when answering only the surest share (area under the risk-coverage curve):")
    for name, risk in result.risk_coverage.items():
        points = ", ".join(f"{share:.0%} {value:.3f}" for share, value in risk.risk_at.items())
        lines.append(f"  {name:6s} AURC {risk.aurc:.3f}; {points}")
    return "\n".join(lines)


def _interval(score: Interval) -> str:
    return f"{score.value:.3f} [{score.low:.3f}, {score.high:.3f}]"
