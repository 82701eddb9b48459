"""Summarise a demo run in five lines: what changed and why. Every number is computed from the topics' records."""

from __future__ import annotations

from itertools import pairwise

from demo.view.board import Board, clock_text, likeliest, reasons_text
from operators.payloads import AffectEvent, RankedItem

CHAPTER_WINDOWS = 5
"""An emotion is listed where it was the likeliest in this many windows in a row."""


def summary(board: Board, resident_bytes: int | None) -> list[str]:
    """Summarise expression, evidence, order, consent and cost, a line each."""
    return [_expression(board), _evidence(board), _order(board), _consent(board), _cost(board, resident_bytes)]


def _expression(board: Board) -> str:
    runs: list[tuple[str, list[float], int]] = []
    for event in board.finals:
        top = likeliest(event.emotions)
        name, value = top or ("no estimate", 0.0)
        if runs and runs[-1][0] == name:
            runs[-1][1].append(value)
        else:
            runs.append((name, [value], event.window_end_ms))
    chapters: list[tuple[str, list[float], int]] = []
    for run in (r for r in runs if len(r[1]) >= CHAPTER_WINDOWS):
        if chapters and chapters[-1][0] == run[0]:
            chapters[-1][1].extend(run[1])
        else:
            chapters.append(run)
    parts = [
        f"{name}{f' {sum(values) / len(values):.2f}' if any(values) else ''} ({clock_text(board.since_start(at))})"
        for name, values, at in chapters
    ]
    return f"Expression: {' → '.join(parts) or 'no window closed'}."


def _evidence(board: Board) -> str:
    weights = {m: [e.modalities[m].weight for e in board.finals if m in e.modalities] for m in board.modalities}
    means = [f"{m} {sum(w) / len(w):.2f}" for m, w in weights.items() if w]
    absence = _longest_without_face(board)
    top = max(board.finals, key=lambda e: e.conflict, default=None)
    line = f"Evidence: mean weights {', '.join(means) or 'none'}"
    if absence:
        line += f"; no face at {absence}, the others went on"
    if top is not None and top.conflict > 0:
        at = clock_text(board.since_start(top.window_end_ms))
        line += f"; they disagreed most at {at} (conflict {top.conflict:.2f})"
    return f"{line}."


def _order(board: Board) -> str:
    changes = [(a, b) for a, b in pairwise(board.lists) if [i.item_id for i in a.items] != [i.item_id for i in b.items]]
    risen: list[tuple[int, RankedItem, int]] = [
        (item.base_rank - item.position, item, ranked.emitted_at_ms)
        for ranked in board.lists
        for item in ranked.items
        if item.reasons.get("affect")
    ]
    if not risen:
        return f"Order: the list came {len(board.lists)} times, always in the platform's own order."
    rise, item, at = max(risen, key=lambda r: r[0])
    where = f"from {item.base_rank + 1} to {item.position + 1} at {clock_text(board.since_start(at))}"
    by_affect = sum(b.cause == "affect" for _, b in changes)
    how_often = f"changed {len(changes)} times, {by_affect} of them as affect moved"
    if rise < 1:
        return f"Order: {how_often}."
    return f"Order: {how_often}; furthest: “{board.title(item.item_id)}” {where} = {reasons_text(item)}."


def _consent(board: Board) -> str:
    if not board.withdrawals:
        return "Consent: nothing was withdrawn."
    at_ms, withdrawn = board.withdrawals[0]
    after = [e for e in board.finals if board.since_start(e.window_end_ms) > at_ms]
    lines = []
    for modality in withdrawn:
        weighted = [e for e in after if modality in e.modalities and e.modalities[modality].weight > 0]
        last = max((board.since_start(e.window_end_ms) for e in weighted), default=at_ms)
        stopped = f"its last weight is in the window that ended {max(0, last - at_ms) / 1000:.1f} s later"
        lines.append(
            f"{modality} withdrawn at {clock_text(at_ms)}; {stopped if weighted else 'no later window weighs it'}"
        )
    return f"Consent: {'; '.join(lines)}."


def _cost(board: Board, resident_bytes: int | None) -> str:
    p50, p95 = board.latency_ms(0.5), board.latency_ms(0.95)
    latency = f"frame → affect_live p50 {p50} ms, p95 {p95} ms" if p50 is not None else "no frame was read"
    refused = ", ".join(f"{n} {reason}" for reason, n in sorted(board.refused.items())) or "nothing"
    line = f"Cost: {latency}; {board.provisionals} provisional and {len(board.finals)} final events; refused: {refused}"
    return f"{line}; operators' memory {resident_bytes >> 20} MB." if resident_bytes else f"{line}."


def _longest_without_face(board: Board) -> str:
    """The longest time without a face, such as `0:12–0:18`; "" where there always was one."""
    runs: list[list[AffectEvent]] = [[]]
    for event in board.finals:
        face = event.modalities.get("face")
        if face is not None and face.state == "absent":
            runs[-1].append(event)
        elif runs[-1]:
            runs.append([])
    longest = max(runs, key=len)
    if not longest:
        return ""
    first, last = (clock_text(board.since_start(e.window_end_ms)) for e in (longest[0], longest[-1]))
    return first if first == last else f"{first}–{last}"
