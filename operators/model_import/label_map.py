"""A model's own class names in, the emotion that each counts towards out, or every name that maps to nothing."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path

from kernels.emotions import EMOTIONS, FER2013_TO_EMOTION, GOEMOTIONS_TO_EMOTION, RAVDESS_TO_EMOTION
from streamer.errors import Problem

KNOWN: dict[str, str | None] = {
    **GOEMOTIONS_TO_EMOTION,
    **RAVDESS_TO_EMOTION,
    **FER2013_TO_EMOTION,
    **{name: name for name in EMOTIONS},
    "happiness": "happiness", "sadness": "sadness", "disgusted": "disgust", "surprized": "surprise",
    "ang": "anger", "hap": "happiness", "neu": "neutral", "dis": "disgust", "fea": "fear", "sur": "surprise",
    "contempt": None, "boredom": None, "bored": None, "other": None, "unknown": None,
}  # fmt: skip
"""Class names of public data sets and encoders, in small letters; None: known to have no counterpart."""
NOTHING = "none"
_GENERIC = re.compile(r"label_\d+")
_FEWEST = 2

Given = Mapping[str, str | None]
"""What the person said: a class name and its emotion, None for "leave out", "" for "you know this name"."""


def parse_labels(text: str) -> dict[str, str | None]:
    """`angry=anger,contempt=none,fear` to a map in that order."""
    pairs = [part.partition("=") for part in text.split(",") if part.strip()]
    return {name.strip(): None if to.strip().lower() == NOTHING else to.strip() for name, _, to in pairs}


def read_label_map(path: Path) -> dict[str, str | None]:
    """A JSON file, a map from class names to emotions (null or "none": leave out), to the same.

    Raises:
        ValueError: no such file, no JSON, or no map of names to names.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"can't be read: {error}") from error
    if not isinstance(found, dict) or not all(isinstance(to, str | None) for to in found.values()):
        raise ValueError('must be a JSON map such as {"angry": "anger", "contempt": null}')
    return {name: None if to is None or to.lower() == NOTHING else to for name, to in found.items()}


def classes(named: Sequence[str] | None, given: Given) -> tuple[dict[str, str | None], list[Problem]]:
    """Class names in the order of the logits (None: the model doesn't say) and the person's map to each one's emotion.

    Without names, or with names such as LABEL_0, `given` names them, in the order of the logits.
    """
    problems: list[Problem] = []
    generic = named is not None and all(_GENERIC.fullmatch(name.lower()) for name in named)
    if named is None or (generic and not set(given) <= set(named)):
        named = list(given)
    elif generic and not given:
        said = "config.json has no id2label of its own (it says LABEL_0, …)"
        return {}, [Problem("--labels", f"{said}: name the classes in their order, such as angry=anger,happy")]
    if not named:
        return {}, [Problem("--labels", "no config.json with id2label lies beside it: name the classes in their order")]
    strangers = sorted(set(given) - set(named))
    problems += [Problem(f"--labels {name}", f"no class has this name{_nearest(name, named)}") for name in strangers]
    found: dict[str, str | None] = {}
    for name in named:
        told = given.get(name, "")
        if told == "" and _plain(name) not in KNOWN:
            way_out = f"say {name}=EMOTION or {name}={NOTHING}; emotions: {', '.join(EMOTIONS)}"
            problems.append(Problem(f"labels.{name}", f"maps to nothing{_nearest(_plain(name), KNOWN)}; {way_out}"))
        elif told and told not in EMOTIONS:
            problems.append(Problem(f"labels.{name}", f"no emotion {told}{_nearest(told, EMOTIONS)}"))
        found[name] = KNOWN.get(_plain(name)) if told == "" else told
    if not problems and len(set(found.values()) - {None}) < _FEWEST:
        problems.append(Problem("--labels", f"its classes map to fewer than {_FEWEST} emotions"))
    return found, problems


def emotion_of(name: str, known: Mapping[str, str | None]) -> str | None:
    """A labelled folder's name to its emotion by the model's own map or by names known here; None: it has none.

    Raises:
        ValueError: nothing knows this name; says which come nearest.
    """
    by_plain = {_plain(own): to for own, to in known.items()}
    for names in (by_plain, KNOWN):
        if _plain(name) in names:
            return names[_plain(name)]
    raise ValueError(f"no class or emotion has this name{_nearest(_plain(name), [*by_plain, *KNOWN])}")


def _plain(name: str) -> str:
    return name.strip().lower().replace("-", "_").replace(" ", "_")


def _nearest(name: str, names: Sequence[str] | Mapping[str, object]) -> str:
    close = get_close_matches(name, list(dict.fromkeys(names)), n=2, cutoff=0.6)
    return f"; nearest: {', '.join(close)}" if close else ""
