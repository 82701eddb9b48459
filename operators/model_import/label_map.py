"""Map a model's class names to emotions, or list the names without a known emotion."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path

from kernels.emotions import EMOTIONS, FER2013_TO_EMOTION, GOEMOTIONS_TO_EMOTION, RAVDESS_TO_EMOTION
from streamer.errors import Problem

PUBLIC_NAMES: dict[str, str | None] = {
    **GOEMOTIONS_TO_EMOTION,
    **RAVDESS_TO_EMOTION,
    **FER2013_TO_EMOTION,
    **{name: name for name in EMOTIONS},
    "happiness": "happiness", "sadness": "sadness", "disgusted": "disgust", "surprized": "surprise",
    "ang": "anger", "hap": "happiness", "neu": "neutral", "dis": "disgust", "fea": "fear", "sur": "surprise",
    "contempt": None, "boredom": None, "bored": None, "other": None, "unknown": None,
}  # fmt: skip
"""Class names of public data sets and encoders, in lower case; None: no emotion corresponds."""
UNMAPPED = "none"
_GENERIC = re.compile(r"label_\d+")
_FEWEST = 2

UserMap = Mapping[str, str | None]
"""The user's map: a class name and its emotion, None to leave it out, "" to look the name up in `PUBLIC_NAMES`."""


def parse_labels(text: str) -> dict[str, str | None]:
    """Parse `angry=anger,contempt=none,fear` into a map in that order."""
    pairs = [part.partition("=") for part in text.split(",") if part.strip()]
    return {name.strip(): None if to.strip().lower() == UNMAPPED else to.strip() for name, _, to in pairs}


def read_label_map(path: Path) -> dict[str, str | None]:
    """Read a JSON map from class names to emotions (null or "none": leave out).

    Raises:
        ValueError: no such file, no JSON, or no map of names to names.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"can't be read: {error}") from error
    if not isinstance(found, dict) or not all(isinstance(to, str | None) for to in found.values()):
        raise ValueError('must be a JSON map such as {"angry": "anger", "contempt": null}')
    return {name: None if to is None or to.lower() == UNMAPPED else to for name, to in found.items()}


def classes(named: Sequence[str] | None, user_map: UserMap) -> tuple[dict[str, str | None], list[Problem]]:
    """Map class names, in the order of the logits, to emotions by the user's map and `PUBLIC_NAMES`.

    Where `named` is None or has names such as LABEL_0, the keys of `user_map` name the classes, in that order.
    """
    problems: list[Problem] = []
    generic = named is not None and all(_GENERIC.fullmatch(name.lower()) for name in named)
    if named is None or (generic and not set(user_map) <= set(named)):
        named = list(user_map)
    elif generic and not user_map:
        problem = "config.json has no id2label of its own (it says LABEL_0, …)"
        return {}, [Problem("--labels", f"{problem}: name the classes in their order, such as angry=anger,happy")]
    if not named:
        return {}, [Problem("--labels", "no config.json with id2label lies beside it: name the classes in their order")]
    unknown = sorted(set(user_map) - set(named))
    problems += [Problem(f"--labels {name}", f"no class has this name{_nearest(name, named)}") for name in unknown]
    found: dict[str, str | None] = {}
    for name in named:
        to = user_map.get(name, "")
        if to == "" and _plain(name) not in PUBLIC_NAMES:
            way_out = f"say {name}=EMOTION or {name}={UNMAPPED}; emotions: {', '.join(EMOTIONS)}"
            nearest = _nearest(_plain(name), PUBLIC_NAMES)
            problems.append(Problem(f"labels.{name}", f"maps to nothing{nearest}; {way_out}"))
        elif to and to not in EMOTIONS:
            problems.append(Problem(f"labels.{name}", f"no emotion {to}{_nearest(to, EMOTIONS)}"))
        found[name] = PUBLIC_NAMES.get(_plain(name)) if to == "" else to
    if not problems and len(set(found.values()) - {None}) < _FEWEST:
        problems.append(Problem("--labels", f"its classes map to fewer than {_FEWEST} emotions"))
    return found, problems


def emotion_of(name: str, model_map: Mapping[str, str | None]) -> str | None:
    """Return the emotion of a labelled folder's name, by the model's map or `PUBLIC_NAMES`; None: no emotion.

    Raises:
        ValueError: the name is in neither; the message names the nearest ones.
    """
    by_plain = {_plain(class_name): to for class_name, to in model_map.items()}
    for names in (by_plain, PUBLIC_NAMES):
        if _plain(name) in names:
            return names[_plain(name)]
    raise ValueError(f"no class or emotion has this name{_nearest(_plain(name), [*by_plain, *PUBLIC_NAMES])}")


def _plain(name: str) -> str:
    return name.strip().lower().replace("-", "_").replace(" ", "_")


def _nearest(name: str, names: Sequence[str] | Mapping[str, object]) -> str:
    close = get_close_matches(name, list(dict.fromkeys(names)), n=2, cutoff=0.6)
    return f"; nearest: {', '.join(close)}" if close else ""
