"""Converts plain values to typed frozen structs, and collects every mistake instead of raising the first.

msgspec converts one value and stops at the first error; this walks structs, mappings and lists itself, so that a file
with ten mistakes gets ten problems, each with its path, its line and the nearest known name.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable, Mapping, Sequence
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, Union, cast, get_args, get_origin

import msgspec

from streamer.errors import Problem
from streamer.topology.yaml_places import joined

S = TypeVar("S", bound=msgspec.Struct)
T = TypeVar("T")


class _Bad:
    """In place of a value that could not be read, whose problem has been noted."""


_BAD = _Bad()


class StructReader:
    """Converts values to types and collects the problems.

    A type with a classmethod `parse(value)` that raises ValueError (Duration, for one) is read by it.
    """

    def __init__(self, lines: Mapping[str, int]) -> None:
        self._lines = lines
        self.problems: list[Problem] = []
        self._read: dict[str, object] = {}

    def note(self, path: str, message: str) -> None:
        """Add a problem, with the line of its path or of the nearest path above it."""
        line, _ = location(path, self._lines)
        self.problems.append(Problem(path or "file", f"{message} (line {line})" if line else message))

    def read(self, kind: type[S], value: object, path: str) -> S | None:
        """Convert a mapping to a struct; None where a required field is wrong. Wrong optional ones are left out."""
        read = self._any(kind, value, path)
        return None if isinstance(read, _Bad) else cast(S, read)

    def at(self, kind: type[T], path: str) -> T | None:
        """The value read at a path, even if the struct around it is wrong; None if there is none of this type."""
        read = self._read.get(path)
        return read if isinstance(read, kind) else None

    def has_problem(self, path: str) -> bool:
        """Whether a problem was noted at a path or below it."""
        below = (f"{path}.", f"{path}[")
        return any(p.path == path or p.path.startswith(below) for p in self.problems)

    def _struct(self, kind: type[msgspec.Struct], value: object, path: str) -> msgspec.Struct | _Bad:
        if not isinstance(value, Mapping):
            self.note(path, f"must be a mapping, not {described(value)}")
            return _BAD
        fields = {f.encode_name: f for f in msgspec.structs.fields(kind)}
        for key in value:
            if key not in fields:
                self.note(joined(path, key), f"unknown key{nearest(str(key), fields)}")
        read: dict[str, Any] = {}
        complete = True
        for name, field in fields.items():
            if name not in value:
                if field.required:
                    self.note(joined(path, name), "is missing")
                    complete = False
                continue
            got = self._any(field.type, value[name], joined(path, name))
            if not isinstance(got, _Bad):
                read[field.name] = got
            elif field.required:
                complete = False
        if not complete:
            return _BAD
        try:
            return kind(**read)
        except (ValueError, TypeError) as error:
            self.note(path, str(error))
            return _BAD

    def _any(self, kind: Any, value: object, path: str) -> object:
        read = self._read[path] = self._inner(kind, value, path)
        return read

    def _inner(self, kind: Any, value: object, path: str) -> object:
        origin, arguments = get_origin(kind), get_args(kind)
        if origin in (Union, UnionType) and NoneType in arguments:
            rest = [a for a in arguments if a is not NoneType]
            if value is None:
                return None
            if len(rest) == 1:
                return self._any(rest[0], value, path)
        if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
            return self._struct(kind, value, path)
        if isinstance(origin, type) and issubclass(origin, Mapping):
            return self._mapping(arguments[0], arguments[1], value, path)
        if origin in (list, tuple, Sequence) and arguments[1:] in ((), (...,)):
            if not isinstance(value, list):
                self.note(path, f"must be a list, not {described(value)}")
                return _BAD
            items = [self._any(arguments[0], inner, f"{path}[{i}]") for i, inner in enumerate(value)]
            good = [item for item in items if not isinstance(item, _Bad)]
            return tuple(good) if origin is tuple else good
        return self._leaf(kind, value, path)

    def _mapping(self, key_kind: Any, kind: Any, value: object, path: str) -> dict[Any, object] | _Bad:
        if not isinstance(value, Mapping):
            self.note(path, f"must be a mapping, not {described(value)}")
            return _BAD
        read: dict[Any, object] = {}
        for key, inner in value.items():
            below = joined(path, key)
            name, item = self._leaf(key_kind, key, below), self._any(kind, inner, below)
            if not isinstance(name, _Bad) and not isinstance(item, _Bad):
                read[name] = item
        return read

    def _leaf(self, kind: Any, value: object, path: str) -> object:
        if get_origin(kind) is Literal and value not in get_args(kind):
            choices = [str(a) for a in get_args(kind)]
            self.note(path, f"must be {listed(choices)}, not {described(value)}{meant(str(value), choices)}")
            return _BAD
        try:
            read = msgspec.convert(value, kind, dec_hook=_parse)
        except (msgspec.ValidationError, NotImplementedError) as error:
            message = str(error).partition(" - at `")[0]
            self.note(path, message[:1].lower() + message[1:] + _boolean_trap(value))
            return _BAD
        if isinstance(read, float) and not math.isfinite(read):
            self.note(path, "must be a finite number")
            return _BAD
        return read


def _parse(kind: Any, value: object) -> object:
    parse = getattr(kind, "parse", None)
    if parse is None:
        raise NotImplementedError(f"{kind.__name__} has no classmethod parse(value)")
    return parse(value)


def _boolean_trap(value: object) -> str:
    if not isinstance(value, bool):
        return ""
    return ": YAML reads on, off, yes and no as booleans, so put them in quotes"


def location(path: str, lines: Mapping[str, int]) -> tuple[int, str]:
    """A sort key for a path: its line, or that of the nearest path above it (0 if there is none), and the path."""
    above = path
    while above and above not in lines:
        above = above[: max(above.rfind("."), above.rfind("["), 0)]
    return lines.get(above, 0) if above else 0, path


def nearest(name: str, known: Iterable[str]) -> str:
    """`; did you mean X?` for the known name closest to a wrong one; else the known names, where they are few."""
    names = sorted(known)
    if close := meant(name, names):
        return close
    return f"; known: {', '.join(names)}" if 0 < len(names) <= 20 else ""  # noqa: PLR2004 - what fits on two lines


def meant(name: str, known: Iterable[str]) -> str:
    """`; did you mean X?` for the known name closest to a wrong one, or nothing."""
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f"; did you mean {close[0]}?" if close else ""


def listed(names: Sequence[str]) -> str:
    """`a, b or c`."""
    return " or ".join([", ".join(names[:-1]), names[-1]]) if len(names) > 1 else "".join(names)


def described(value: object) -> str:
    """A value to a few words for a message."""
    if value is None:
        return "empty"
    if isinstance(value, bool):
        return f"{str(value).lower()}{_boolean_trap(value)}"
    if isinstance(value, Mapping | list):
        return "a mapping" if isinstance(value, Mapping) else "a list"
    return repr(value)
