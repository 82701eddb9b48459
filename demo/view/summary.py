"""What a board has seen in, five lines of what changed and why out. Every number in them was read from the topics."""

from __future__ import annotations

from itertools import pairwise

from demo.view.board import Board, because, clock_text, leading
from operators.payloads import AffectEvent, RankedItem

LONG_ENOUGH = 5
"""An emotion counts as a chapter of the story when it led for this many windows in a row."""
CONFLICT = 0.5


def summary(board: Board, resident_bytes: int | None) -> list[str]:
    """Five lines."""
    return [_expression(board), _evidence(board), _order(board), _consent(board), _cost(board, resident_bytes)]


def _expression(board: Board) -> str:
    chapters: list[tuple[str, list[float], int]] = []
    for event in board.finals:
        led = leading(event.emotions)
        name, value = led or ("no estimate", 0.0)
        if chapters and chapters[-1][0] == name:
            chapters[-1][1].append(value)
        else:
            chapters.append((name, [value], event.window_end_ms))
    told: list[tuple[str, list[float], int]] = []
    for chapter in (c for c in chapters if len(c[1]) >= LONG_ENOUGH):
        if told and told[-1][0] == chapter[0]:
            told[-1][1].extend(chapter[1])
        else:
            told.append(chapter)
    parts = [
        f"{name}{f' {sum(values) / len(values):.2f}' if any(values) else ''} ({clock_text(board.since_start(at))})"
        for name, values, at in told
    ]
    return f"Expression: {' → '.join(parts) or 'no window closed'}."


def _evidence(board: Board) -> str:
    weights = {m: [e.modalities[m].weight for e in board.finals if m in e.modalities] for m in board.modalities}
    means = [f"{m} {sum(w) / len(w):.2f}" for m, w in weights.items() if w]
    away = _longest_without_face(board)
    worst = max(board.finals, key=lambda e: e.conflict, default=None)
    line = f"Evidence: mean weights {', '.join(means) or 'none'}"
    if away:
        line += f"; no face at {away}, the others went on"
    if worst is not None and worst.conflict > 0:
        at = clock_text(board.since_start(worst.window_end_ms))
        line += f"; they disagreed most at {at} (conflict {worst.conflict:.2f})"
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
    return f"Order: {how_often}; furthest: “{board.title(item.item_id)}” {where} = {because(item)}."


def _consent(board: Board) -> str:
    if not board.withdrawals:
        return "Consent: nothing was withdrawn."
    at_ms, gone = board.withdrawals[0]
    after = [e for e in board.finals if board.since_start(e.window_end_ms) > at_ms]
    lines = []
    for modality in gone:
        weighed = [e for e in after if modality in e.modalities and e.modalities[modality].weight > 0]
        last = max((board.since_start(e.window_end_ms) for e in weighed), default=at_ms)
        stopped = f"its last weight is in the window that ended {max(0, last - at_ms) / 1000:.1f} s later"
        lines.append(
            f"{modality} withdrawn at {clock_text(at_ms)}; {stopped if weighed else 'no later window weighs it'}"
        )
    return f"Consent: {'; '.join(lines)}."


def _cost(board: Board, resident_bytes: int | None) -> str:
    p50, p95 = board.latency_ms(0.5), board.latency_ms(0.95)
    latency = f"frame → affect_live p50 {p50} ms, p95 {p95} ms" if p50 is not None else "no frame was read"
    refused = ", ".join(f"{n} {reason}" for reason, n in sorted(board.refused.items())) or "nothing"
    line = f"Cost: {latency}; {board.provisionals} provisional and {len(board.finals)} final events; refused: {refused}"
    return f"{line}; operators' memory {resident_bytes >> 20} MB." if resident_bytes else f"{line}."


def _longest_without_face(board: Board) -> str:
    """From when to when no face was there for longest; "" where one always was."""
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
