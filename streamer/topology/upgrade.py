"""A topology file of version 1 in, the same as version 2 out: recordings keep the topology that was in force.

Version 1 knew four modalities. Their half-lives, reliabilities and sharpnesses were parameters of a windowed operator,
the sparse ones were listed in its window.
"""

from __future__ import annotations

from typing import Any

from streamer.topology.yaml_places import YamlTree

_FUSER = "fuse_affect"
_TOPICS = {"face": "video_frames", "voice": "audio_chunks", "text": "chat_messages", "behaviour": "interactions"}
_OF_FUSER: dict[str, dict[str, Any]] = {
    "half_life": {"face": "1s", "voice": "2s", "text": "4s", "behaviour": "4s"},
    "reliability": {"face": 0.9, "voice": 0.8, "text": 0.9},
    "sharpness": {"face": 2.8, "voice": 1.0, "text": 2.1},
}
"""The defaults of its parameters: `half_life` was replaced as a whole, the others modality by modality."""


def upgraded(tree: YamlTree) -> YamlTree:
    """A tree of version 1 to one of version 2; any other is returned as it is."""
    file = tree.value
    if not isinstance(file, dict) or file.get("version") != 1 or "modalities" in file:  # version 1 had none
        return tree
    lines = dict(tree.lines)
    topics = _mapping(file.get("topics"))
    reliability = _OF_FUSER["reliability"]
    modalities: dict[str, dict[str, Any]] = {
        name: {"evidence": name in reliability, **({"reliability": reliability[name]} if name in reliability else {})}
        | ({"topic": topic} if topic in topics else {})
        for name, topic in _TOPICS.items()
    }
    operators = file.get("operators")
    for name, operator in _mapping(operators).items():
        if isinstance(operator, dict) and isinstance(operator.get("window"), dict):
            moved = _move(name, operator, modalities, lines)
            operators = {**_mapping(operators), name: moved}
    return YamlTree({**file, "version": 2, "modalities": modalities, "operators": operators}, lines, tree.problems)


def _move(
    name: str, operator: dict[str, Any], modalities: dict[str, dict[str, Any]], lines: dict[str, int]
) -> dict[str, Any]:
    """A windowed operator without what it said of modalities, which is added to `modalities`."""
    params, window = dict(_mapping(operator.get("params"))), dict(operator["window"])
    for key, defaults in _OF_FUSER.items():
        given = params.pop(key, None)
        if name == _FUSER:
            given = defaults if given is None else _mapping(given) if key == "half_life" else defaults | _mapping(given)
        for modality, value in _mapping(given).items():
            entry = modalities.setdefault(modality, {"evidence": False})
            entry[key] = value
            entry["evidence"] = entry["evidence"] or key == "reliability"
            if (line := lines.get(f"operators.{name}.params.{key}.{modality}")) is not None:
                lines[f"modalities.{modality}.{key}"] = line
    sparse = window.pop("sparse", None)
    for modality in sparse if isinstance(sparse, list) else ():
        modalities.setdefault(str(modality), {"evidence": False})["sparse"] = True
    return {**operator, "window": window} | ({"params": params} if "params" in operator else {})


def _mapping(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
