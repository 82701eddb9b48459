"""Write an imported model's card.md: what the import measured, and what is not known of the model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from kernels.engines import ModelSpec
from operators.model_import.evaluation import Figures
from operators.model_import.labelled import LabelledSet


@dataclass(slots=True)
class Findings:
    """What an import measured.

    `before` and `after` the calibration, on the items that the temperature was fitted on; `test_before` and
    `test_after` on other items. `unreadable` counts unreadable items by path.
    """

    origin: str
    size_bytes: int
    threads: int = 2
    ms: float = 0.0
    prior_known: bool = False
    calibration_set: LabelledSet | None = None
    test_set: LabelledSet | None = None
    unreadable: dict[str, int] = field(default_factory=dict)
    before: Figures | None = None
    after: Figures | None = None
    test_before: Figures | None = None
    test_after: Figures | None = None
    warnings: list[str] = field(default_factory=list)


_INPUTS = {
    "face_grey_crop": "a grey picture of one face, 48 x 48, values 0 to 255",
    "image_rgb": "a colour picture of one face, {size} x {size}, (value / 255 - {mean}) / {std}",
    "log_mel": "up to 3 s of speech as 300 x 67 features (`kernels/voice/speech.py`)",
    "waveform": "up to 3 s of speech at 16 kHz{how}",
    "wordpiece": "one text as at most {positions} tokens of its own tokenizer.json; emoji as they are",
}
_OPERATORS = {"face": "sense_face", "voice": "sense_voice", "text": "sense_text"}


def card(spec: ModelSpec, found: Findings) -> str:
    """Write the card as Markdown."""
    lines = [
        f"# {spec.id}, imported",
        "",
        f"{_input(spec)} in; scores of {len(spec.classes)} classes out.",
        "**An estimate of expression, not of inner state.**",
        "",
        "## What is known",
        "",
        f"- Where it comes from: `{found.origin}`. Weights: {found.size_bytes / 1e6:.1f} MB, sha256 `{spec.sha256}`.",
        f"- Licence state: {_licence(spec)}",
        f"- One item takes {found.ms:.1f} ms (median of 20, batch 1, {found.threads} threads, where it was imported).",
        f"- {_prior(spec, found)}",
        "- It passed: its scores of random input are finite and don't depend on what else is in a batch.",
        "",
        "Each of its classes counts towards an emotion; what it says of those without one is left out of the estimate",
        "and lowers its confidence:",
        "",
        "| its class | emotion |",
        "|---|---|",
        *(f"| {name} | {emotion or '(none: left out)'} |" for name, emotion in spec.classes.items()),
        "",
        "## What is not known here",
        "",
        "What it was trained on and who gave the labels; how it does by groups of people, on other recordings, and on",
        "whatever the items below are not; whether those items were part of its training. Its own authors may say: add",
        "it, with a link.",
        "",
        "## Figures and calibration",
        "",
        *_calibration(spec, found),
    ]
    if found.warnings:
        lines += ["", "## Warnings of the import", "", *(f"- {warning}" for warning in found.warnings)]
    return "\n".join(lines) + "\n"


def summary(found: Findings) -> list[str]:
    """Summarise the figures in a few lines, for the terminal."""
    lines = []
    for title, before, after in (
        ("fitted on", found.before, found.after),
        ("judged on", found.test_before, found.test_after),
    ):
        if before is not None and after is not None:
            low, high = after.band
            lines.append(
                f"{title} {after.n} items: accuracy {after.accuracy:.3f} (always the commonest: {after.floor:.3f}), "
                f"macro-F1 {after.macro_f1:.3f}, ECE {before.ece:.3f} -> {after.ece:.3f} "
                f"(a perfect calibrator: {low:.3f} to {high:.3f})"
            )
    return lines


def _input(spec: ModelSpec) -> str:
    how = ", brought to mean 0 and variance 1" if spec.input.get("normalised") else ", as it is"
    text = _INPUTS[spec.input["framing"]].format(**{**spec.input, "how": how})
    return text[0].upper() + text[1:]


def _licence(spec: ModelSpec) -> str:
    return {
        "free": "free, as whoever imported it says.",
        "share_alike": "share_alike, as whoever imported it says: what is made from it has to carry the same licence.",
        "unsettled": f"unsettled. `{_OPERATORS[spec.modality]}` starts with it only in the demo or with "
        "`STREAMER_ACCEPT_LICENCES=unsettled`.",
        "non_commercial": f"non_commercial. `{_OPERATORS[spec.modality]}` starts with it only with "
        "`STREAMER_ACCEPT_LICENCES=non_commercial`.",
    }[spec.licence]


def _prior(spec: ModelSpec, found: Findings) -> str:
    if not found.prior_known:
        return "The label shares of its training set, which fusion divides out: not known, taken as equal."
    shares = ", ".join(f"{name} {share:.3f}" for name, share in spec.prior.items())
    return f"The label shares of its training set, which fusion divides out, as whoever imported it says: {shares}."


def _calibration(spec: ModelSpec, found: Findings) -> Sequence[str]:
    if found.before is None or found.after is None or found.calibration_set is None:
        return ["None: it was imported without `--calibrate`. Its confidence means nothing until it is calibrated."]
    head = [
        "| items | n | accuracy | always the commonest | macro-F1 | NLL | Brier | ECE | 95 % band |",
        "|---" * 9 + "|",
    ]
    rows = [
        _row("fitted on, before", found.before),
        _row("fitted on, after", found.after),
        *([_row("others, before", found.test_before)] if found.test_before else []),
        *([_row("others, after", found.test_after)] if found.test_after else []),
    ]
    where = "**the rows above are of the very items it was fitted on**, so they flatter it"
    if found.test_after:
        where = "the last two rows are of other items"
    notes = [
        f"One temperature, {spec.temperature:.4f}, with the least cross-entropy on the items of",
        f"`{found.calibration_set.path.name}`; {where}.",
        "ECE: 10 bins of equal mass; band: where 95 % of perfect calibrators with these confidences have theirs.",
    ]
    used = [one for one in (found.calibration_set, found.test_set) if one is not None]
    notes += [f"Of `{one.path.name}` not used: {counts}." for one in used if (counts := _unused(one, found.unreadable))]
    return [*head, *rows, "", *notes, "It speaks for items like these, in these shares; elsewhere expect it to be off."]


def _unused(items: LabelledSet, unreadable: Mapping[str, int]) -> str:
    parts = [f"{count} labelled {name}, which it has no class for" for name, count in items.left_out.items()]
    broken = unreadable.get(str(items.path), 0)
    return "; ".join([*parts, *([f"{broken} that can't be read"] if broken else [])])


def _row(title: str, f: Figures) -> str:
    low, high = f.band
    return (
        f"| {title} | {f.n} | {f.accuracy:.3f} | {f.floor:.3f} | {f.macro_f1:.3f} | {f.nll:.3f} | {f.brier:.3f} "
        f"| {f.ece:.3f} | {low:.3f}-{high:.3f} |"
    )
