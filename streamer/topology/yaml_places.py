"""Reads a YAML file: plain values, the line of each, and every duplicate key.

Stricter than YAML: one document, no anchors (a reader should see each value where it counts), keys are plain names.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from streamer.errors import ConfigurationError, Problem

MAX_BYTES = 1024 * 1024
MAX_DEPTH = 20


@dataclass(frozen=True, slots=True)
class YamlTree:
    """A file's values; `lines` maps the path of each (`operators.sense_face.batch.wait`) to its line, from 1."""

    value: object
    lines: dict[str, int] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)


def read_yaml(path: Path) -> YamlTree:
    """A YAML file to its tree.

    Raises:
        ConfigurationError: missing, unreadable, empty, not text, too large, or not YAML.
    """
    text = _text(path)
    try:
        _refuse_aliases_and_depth(path, text)
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"line {mark.line + 1}, column {mark.column + 1}" if mark else "file"
        raise _refused(path, where, f"not YAML: {error.problem or error.context}") from None
    except yaml.YAMLError as error:
        raise _refused(path, "file", f"not YAML: {str(error).splitlines()[0]}") from None
    if root is None:
        raise _refused(path, "file", "is empty")
    tree = YamlTree(None)
    value = _value(root, "", tree)
    return YamlTree(value, tree.lines, tree.problems)


def joined(path: str, key: object) -> str:
    """A path and a key below it to that key's path."""
    return f"{path}.{key}" if path else str(key)


def _text(path: Path) -> str:
    try:
        if path.stat().st_size > MAX_BYTES:
            raise _refused(path, "file", f"is larger than {MAX_BYTES} bytes: not a configuration")
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise _refused(path, "file", "does not exist; name another one with --topology PATH") from None
    except UnicodeDecodeError:
        raise _refused(path, "file", "is not UTF-8 text") from None
    except OSError as error:
        raise _refused(path, "file", f"can't be read: {error.strerror}") from None


def _refuse_aliases_and_depth(path: Path, text: str) -> None:
    depth = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > MAX_DEPTH:
            raise _refused(path, "file", "nested too deeply for a configuration")
        if isinstance(event, yaml.AliasEvent):
            raise _refused(path, f"*{event.anchor}", "anchors and aliases are not used here: spell the value out")


def _refused(path: Path, where: str, message: str) -> ConfigurationError:
    return ConfigurationError(str(path), [Problem(where, message)])


def _value(node: yaml.Node, path: str, tree: YamlTree) -> object:
    tree.lines[path] = node.start_mark.line + 1
    if isinstance(node, yaml.MappingNode):
        return dict(_entries(node, path, tree))
    if isinstance(node, yaml.SequenceNode):
        return [_value(child, f"{path}[{i}]", tree) for i, child in enumerate(node.value)]
    constructor = yaml.constructor.SafeConstructor()
    try:
        return constructor.construct_object(node)
    except (yaml.YAMLError, ValueError):
        tree.problems.append(Problem(path or "file", f"{node.value!r} can't be read as {node.tag}"))
        return None


def _entries(node: yaml.MappingNode, path: str, tree: YamlTree) -> Iterator[tuple[str, object]]:
    first_lines: dict[str, int] = {}
    for key_node, value_node in node.value:
        line = key_node.start_mark.line + 1
        if not isinstance(key_node, yaml.ScalarNode):
            tree.problems.append(Problem(path or "file", f"a key must be a name (line {line})"))
            continue
        key = str(key_node.value)
        below = joined(path, key)
        if key in first_lines:
            message = f"is given twice, on lines {first_lines[key]} and {line}"
            tree.problems.append(Problem(below, message))
            continue
        first_lines[key] = line
        value = _value(value_node, below, tree)
        tree.lines[below] = line
        yield key, value
