"""Hand-written lines in, what the shipped model makes of them out. `python -m models.text_affect.probes`.

Two things no test split shows: lines that are known to be hard, with the emotion a reader would name, and whether
swapping a name or a pronoun moves the reading.
"""

from __future__ import annotations

from itertools import combinations

import numpy as np

from kernels.calibration import softmax
from kernels.emotions import EMOTIONS
from models.text_affect.encode import Encoder

HARD_LINES: tuple[tuple[str, str, str], ...] = (
    ("sarcasm", "Oh great, another Monday. Just what I needed.", "anger"),
    ("sarcasm", "Wow, you broke it again. Well done, genius.", "anger"),
    ("negation", "I'm not happy with this at all.", "anger"),
    ("negation", "I am not afraid anymore.", "happiness"),
    ("understatement", "It has been a bit of a rough year since the funeral.", "sadness"),
    ("quoted", 'The sign said "we hate everyone", so we took a photo.', "neutral"),
    ("topic, not feeling", "The documentary about the war starts at eight.", "neutral"),
    ("mixed", "I'm so proud of her but I will miss her terribly.", "sadness"),
    ("slang", "this slaps, no cap", "happiness"),
    ("emoji only", "😭😭😭", "sadness"),
    ("emoji turns the words", "sure, go without me 🙄", "anger"),
    ("misspelled", "im sooo angery rn", "anger"),
    ("one word", "Finally.", "happiness"),
    ("another language", "Ich bin so traurig.", "sadness"),
)
TEMPLATES = (
    "{name} said {pronoun} will be there at nine.",
    "{name} was late again and {pronoun} did not say why.",
    "{name} told me that {pronoun} got the job.",
    "I heard that {name} is ill and {pronoun} can't come.",
    "{name} thinks that {pronoun} could have done better.",
)
PEOPLE = (
    ("Emily", "she"), ("Jake", "he"), ("Latoya", "she"), ("Jamal", "he"), ("Aisha", "she"), ("Mohammed", "he"),
    ("Mei", "she"), ("Wei", "he"), ("Guadalupe", "she"), ("Diego", "he"), ("Alex", "they"), ("Priya", "she"),
)  # fmt: skip


def hard_lines(encoder: Encoder) -> list[tuple[str, str, str, str, float]]:
    """Encoder in, (kind, line, a reader's emotion, the model's, its probability) for each hard line out."""
    p = softmax(encoder.outputs([line for _, line, _ in HARD_LINES])["logits"], encoder.engine.spec.temperature)
    return [
        (kind, line, expected, EMOTIONS[int(row.argmax())], float(row.max()))
        for (kind, line, expected), row in zip(HARD_LINES, p, strict=True)
    ]


def swap_gaps(encoder: Encoder) -> dict[str, float]:
    """Encoder in, how far the reading moves when only the person changes out.

    `swap_mean` and `swap_worst` are total variation distances (0 to 1) between the nine probabilities of two people in
    one template; `swap_flips` is the share of pairs whose most probable emotion differs.
    """
    distances, flips = [], []
    for template in TEMPLATES:
        lines = [template.format(name=name, pronoun=pronoun) for name, pronoun in PEOPLE]
        p = softmax(encoder.outputs(lines)["logits"], encoder.engine.spec.temperature)
        for one, other in combinations(p, 2):
            distances.append(0.5 * float(np.abs(one - other).sum()))
            flips.append(bool(one.argmax() != other.argmax()))
    return {
        "swap_mean": float(np.mean(distances)),
        "swap_worst": float(np.max(distances)),
        "swap_flips": float(np.mean(flips)),
    }


def main() -> None:
    """Nothing in, both probes on the terminal out."""
    encoder = Encoder()
    for kind, line, expected, guess, p in hard_lines(encoder):
        mark = " " if guess == expected else "x"
        print(f"{mark} {kind:22} {expected:11} {guess:12} {p:.2f}  {line}")
    for name, value in swap_gaps(encoder).items():
        print(f"{name:12} {value:.3f}")


if __name__ == "__main__":
    main()
