"""The nine emotion names, and maps from the labels of public data sets to them.

The nine are Plutchik's eight and neutral, in this order everywhere. GoEmotions: the data set's own Ekman map (Demszky
et al., ACL 2020), refined by trust <- admiration, approval, caring and anticipation <- optimism, desire. RAVDESS calm
-> neutral. FER2013, FER+ and EmoDB names are spelled out. Contempt and boredom have no counterpart and are not mapped.
"""

from __future__ import annotations

EMOTIONS: tuple[str, ...] = (
    "happiness", "sadness", "surprise", "fear", "anger", "disgust", "anticipation", "trust", "neutral",
)  # fmt: skip

SEVEN: tuple[str, ...] = ("happiness", "sadness", "surprise", "fear", "anger", "disgust", "neutral")
"""The classes of data sets without anticipation and trust, which are counted as happiness there."""

GOEMOTIONS_TO_EMOTION: dict[str, str] = {
    "admiration": "trust", "amusement": "happiness", "anger": "anger", "annoyance": "anger", "approval": "trust",
    "caring": "trust", "confusion": "surprise", "curiosity": "surprise", "desire": "anticipation",
    "disappointment": "sadness", "disapproval": "anger", "disgust": "disgust", "embarrassment": "sadness",
    "excitement": "happiness", "fear": "fear", "gratitude": "happiness", "grief": "sadness", "joy": "happiness",
    "love": "happiness", "nervousness": "fear", "optimism": "anticipation", "pride": "happiness",
    "realization": "surprise", "relief": "happiness", "remorse": "sadness", "sadness": "sadness",
    "surprise": "surprise", "neutral": "neutral",
}  # fmt: skip

RAVDESS_TO_EMOTION: dict[str, str] = {
    "angry": "anger", "calm": "neutral", "disgust": "disgust", "fearful": "fear", "happy": "happiness",
    "neutral": "neutral", "sad": "sadness", "surprised": "surprise",
}  # fmt: skip

FER2013_TO_EMOTION: dict[str, str] = {
    "angry": "anger", "disgust": "disgust", "fear": "fear", "happy": "happiness", "sad": "sadness",
    "surprise": "surprise", "neutral": "neutral",
}  # fmt: skip


def fold_to_seven(emotions: dict[str, float]) -> dict[str, float]:
    """Reduce probabilities over the nine emotions to the seven: trust and anticipation are added to happiness."""
    folded = dict.fromkeys(SEVEN, 0.0)
    for name, p in emotions.items():
        folded["happiness" if name in ("trust", "anticipation") else name] += p
    return folded
