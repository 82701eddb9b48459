"""Print the shipped model's predictions for hand-written lines. `python -m models.text_affect.recipe.probes`.

Lines that are known to be hard, with the emotion a reader would name. Swapped names and pronouns are in `swap.py`.
"""

from __future__ import annotations

from kernels.calibration import softmax
from kernels.emotions import EMOTIONS
from models.text_affect.recipe.encode import Encoder

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


def hard_lines(encoder: Encoder) -> list[tuple[str, str, str, str, float]]:
    """Predict each hard line: (kind, line, a reader's emotion, the model's, its probability)."""
    p = softmax(encoder.outputs([line for _, line, _ in HARD_LINES])["logits"], encoder.engine.spec.temperature)
    return [
        (kind, line, expected, EMOTIONS[int(row.argmax())], float(row.max()))
        for (kind, line, expected), row in zip(HARD_LINES, p, strict=True)
    ]


def main() -> None:
    """Run the command line."""
    for kind, line, expected, guess, p in hard_lines(Encoder()):
        mark = " " if guess == expected else "x"
        print(f"{mark} {kind:22} {expected:11} {guess:12} {p:.2f}  {line}")


if __name__ == "__main__":
    main()
