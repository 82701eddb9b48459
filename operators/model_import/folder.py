"""What a person asks to import in, a model folder that `kernels.engines` loads out, or all that stands against it.

A Hugging Face folder is exported only once everything else about it is right: that takes a while.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from kernels import engines
from kernels import model_input as framing
from kernels.emotions import EMOTIONS
from kernels.engines import MODELS, Engine, Licence, ModelSpec
from operators.model_import import hugging_face, judge, signature
from operators.model_import.card import Findings, card, summary
from operators.model_import.hugging_face import FAMILIES
from operators.model_import.label_map import classes, parse_labels, read_label_map
from operators.model_import.labelled import Labelled, find_items, read_items, shared_items
from operators.model_import.source import Source, find_source
from streamer.errors import ConfigurationError, Problem

LARGE_BYTES = 100_000_000
"""What GitHub takes as one file, and more than all shipped models together."""
_USUAL_TOKENS = 64
"""What `sense_text` asks for where the topology doesn't say."""
_EDGES = (0.26, 7.9)
_NAME = re.compile(r"[a-z][a-z0-9_]{0,39}")
_KEPT = ("LICENSE", "LICENSE.txt", "LICENSE.md", "NOTICE", "NOTICE.txt")

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What to import, as what, and where to; `labels` and `prior` are written `name=value,name=value`."""

    path: Path
    name: str
    modality: str
    out: Path | None
    labels: str = ""
    label_map: Path | None = None
    prior: str = ""
    calibrate: Path | None = None
    test: Path | None = None
    licence: Licence = "unsettled"
    threads: int = 2


@dataclass(frozen=True, slots=True)
class Imported:
    """A model folder, and what should be known of it."""

    spec: ModelSpec
    folder: Path
    figures: list[str]
    warnings: list[str]
    usage: str


@dataclass(slots=True)
class _Asked:
    """What could be judged before the model was looked into."""

    source: Source
    classes: dict[str, str | None]
    prior: dict[str, float]
    fitted: Labelled | None
    judged: Labelled | None


def import_model(wanted: Wanted, say: Say = lambda _: None) -> Imported:
    """Check, frame, dry-run, calibrate and describe a model, and write its folder.

    Raises:
        ConfigurationError: all that is wrong with it, or with what was asked for.
    """
    asked, problems = _judge_request(wanted)
    with tempfile.TemporaryDirectory(prefix="streamer-import-") as made:
        folder = Path(made) / wanted.name
        folder.mkdir()
        if asked.source.onnx is not None:
            shutil.copyfile(asked.source.onnx, folder / "model.onnx")
        elif not problems:
            say(f"exporting {wanted.path} to ONNX")
            problems += _export(asked.source, wanted, folder)
        spec = None
        if (folder / "model.onnx").exists():
            spec, more = _describe(wanted, asked, folder)
            problems += more
        if problems or spec is None:
            raise ConfigurationError(f"import of {wanted.path}", problems)
        return _finish(wanted, asked, spec, folder, say)


def _judge_request(wanted: Wanted) -> tuple[_Asked, list[Problem]]:
    if wanted.modality not in FAMILIES:
        why = f"{wanted.modality!r} is nothing that an encoder reads here: use {', '.join(FAMILIES)}"
        raise ConfigurationError("model import", [Problem("--modality", why)])
    problems = _place_problems(wanted)
    source, more = find_source(wanted.path, wanted.modality)
    problems += more
    given: dict[str, str | None] = {}
    if wanted.label_map is not None:
        try:
            given |= read_label_map(wanted.label_map)
        except ValueError as error:
            problems.append(Problem("--label-map", f"{wanted.label_map} {error}"))
    given |= parse_labels(wanted.labels)
    named, more = classes(source.names, given) if wanted.path.exists() else ({}, [])
    problems += more
    prior, more = _read_prior(wanted.prior, {to for to in named.values() if to})
    problems += more
    found: list[Labelled | None] = []
    for option, path in (("--calibrate", wanted.calibrate), ("--test", wanted.test)):
        labelled = None
        if path is not None:
            labelled, more = find_items(path, wanted.modality, named, option)
            problems += more
        found.append(labelled)
    fitted, judged = found
    if judged is not None and wanted.calibrate is None:
        problems.append(Problem("--test", "needs --calibrate: it judges what was fitted there"))
    if fitted and judged and (shared := shared_items(fitted, judged)):
        problems.append(Problem("--test", f"shares {shared} items with --calibrate, byte for byte: judge on others"))
    return _Asked(source, named, prior, fitted, judged), problems


def _place_problems(wanted: Wanted) -> list[Problem]:
    problems = []
    if not _NAME.fullmatch(wanted.name):
        problems.append(Problem("--name", f"{wanted.name!r} must be small letters, digits and _, a letter first"))
    elif (MODELS / wanted.name).exists():
        problems.append(Problem("--name", f"{wanted.name} is the name of a folder of models/: choose another"))
    elif wanted.out is not None and (wanted.out / wanted.name).exists():
        problems.append(Problem("--name", f"{wanted.out / wanted.name} is there already: remove it, or choose another"))
    if wanted.out is None:
        problems.append(
            Problem("--out", "say where to write it, or set STREAMER_MODELS, the folder of imported models")
        )
    elif wanted.out.exists() and not wanted.out.is_dir():
        problems.append(Problem("--out", f"{wanted.out} is no folder"))
    return problems


def _read_prior(text: str, emotions: set[str]) -> tuple[dict[str, float], list[Problem]]:
    """`happiness=.6,sadness=.4` to shares that sum to 1; empty where nothing is said."""
    if not text or not emotions:
        return {}, []
    try:
        shares = {name.strip(): float(value) for name, _, value in (part.partition("=") for part in text.split(","))}
    except ValueError:
        return {}, [Problem("--prior", f"{text!r} must be written emotion=share,emotion=share")]
    total = sum(shares.values())
    if shares.keys() != emotions or min(shares.values()) <= 0 or total == float("inf"):
        listed = ", ".join(name for name in EMOTIONS if name in emotions)
        return {}, [Problem("--prior", f"must give each of {listed} a share above 0, and nothing else one")]
    return {name: round(shares[name] / total, 6) for name in EMOTIONS if name in emotions}, []


def _export(source: Source, wanted: Wanted, folder: Path) -> list[Problem]:
    try:
        hugging_face.export(source.folder, source.config, folder / "model.onnx")
        if wanted.modality == "text" and not (source.folder / "tokenizer.json").exists():
            hugging_face.write_tokenizer(source.folder, folder / "tokenizer.json")
            source.facts = {"tokenizer": json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))}
    except ValueError as error:
        return [Problem("PATH", str(error))]
    return []


def _describe(wanted: Wanted, asked: _Asked, folder: Path) -> tuple[ModelSpec | None, list[Problem]]:
    """A folder with model.onnx to its spec, uncalibrated, and what is wrong with the model's shapes."""
    try:
        found = signature.read_signature(folder / "model.onnx")
    except ValueError as error:
        return None, [Problem("PATH", f"{wanted.path}: {error}")]
    framed = signature.frame(found, wanted.modality, asked.source.facts, asked.source.config)
    problems = framed.problems + signature.output_problems(found, len(asked.classes))
    if problems or not asked.classes:
        return None, problems
    labels = [name for name in EMOTIONS if name in asked.classes.values()]
    spec = ModelSpec(
        name=wanted.name,
        version="",
        modality=wanted.modality,
        labels=labels,
        classes=asked.classes,
        prior=asked.prior or {name: round(1 / len(labels), 6) for name in labels},
        licence=wanted.licence,
        input=framed.input,
        outputs={port.name: " x ".join("n" if n is None else str(n) for n in port.shape) for port in found.outputs},
        embedding_width=signature.embedding_width(found, wanted.modality),
        sha256=hashlib.sha256((folder / "model.onnx").read_bytes()).hexdigest(),
    )
    return spec, []


def _finish(wanted: Wanted, asked: _Asked, spec: ModelSpec, folder: Path, say: Say) -> Imported:
    """A described model to its finished folder: run, calibrated, with its card and papers."""
    if wanted.modality == "text" and not (folder / "tokenizer.json").exists():
        shutil.copyfile(asked.source.folder / "tokenizer.json", folder / "tokenizer.json")
    _write_spec(spec, folder)
    size = (folder / "model.onnx").stat().st_size
    found = Findings(wanted.path.resolve().name, size, wanted.threads, prior_known=bool(asked.prior))
    say(f"a dry run of {size / 1e6:.1f} MB")
    try:
        engine = engines.load(wanted.name, threads=wanted.threads, models=folder.parent)
        how = _framing(engine.spec)
    except (engines.ModelFolderError, RuntimeError) as error:  # OpenVINO's own, where it can't compile
        raise ConfigurationError(f"import of {wanted.path}", [Problem("dry run", str(error).strip()[:300])]) from error
    problems, found.ms = judge.dry_run(engine, how)
    if problems:
        raise ConfigurationError(f"import of {wanted.path}", problems)
    spec = msgspec.structs.replace(spec, temperature=_calibrate(engine, how, asked, found, say))
    spec = msgspec.structs.replace(spec, version=hashlib.sha256(_spec_json(spec)).hexdigest()[:8])
    found.warnings = [*asked.source.warnings, *_warnings(spec, found)]
    _write_spec(spec, folder)
    (folder / "card.md").write_text(card(spec, found), encoding="utf-8")
    for name in _KEPT:
        if (asked.source.folder / name).is_file():
            shutil.copyfile(asked.source.folder / name, folder / name)
    assert wanted.out is not None  # noqa: S101 - judged at first
    target = wanted.out / wanted.name
    wanted.out.mkdir(parents=True, exist_ok=True)
    partial = wanted.out / f".{wanted.name}.partial"
    shutil.rmtree(partial, ignore_errors=True)
    shutil.copytree(folder, partial)
    partial.rename(target)
    return Imported(spec, target, summary(found), found.warnings, _usage(spec))


def _calibrate(engine: Engine, how: Any, asked: _Asked, found: Findings, say: Say) -> float:
    """The temperature, 1 without labelled items; figures are noted."""
    if asked.fitted is None:
        return 1.0
    modality = engine.spec.modality
    say(f"reading {len(asked.fitted.items)} labelled items of {asked.fitted.path}")
    values, items = read_items(asked.fitted.items, how, modality)
    if len(items) < len(asked.fitted.items) / 2:
        told = f"{len(asked.fitted.items) - len(items)} of {len(asked.fitted.items)} items can't be read"
        raise ConfigurationError(str(asked.fitted.path), [Problem("--calibrate", told)])
    found.fitted, found.unreadable[str(asked.fitted.path)] = asked.fitted, len(asked.fitted.items) - len(items)
    logits = judge.run_all(engine, how, values)
    temperature = round(judge.temperature(engine.spec, logits, items), 4)
    found.before, found.after = (judge.figures(engine.spec, logits, items, at) for at in (1.0, temperature))
    if asked.judged is not None:
        say(f"judging on {len(asked.judged.items)} items of {asked.judged.path}")
        values, items = read_items(asked.judged.items, how, modality)
        if items:
            logits = judge.run_all(engine, how, values)
            found.judged, found.unreadable[str(asked.judged.path)] = asked.judged, len(asked.judged.items) - len(items)
            found.test_before, found.test_after = (
                judge.figures(engine.spec, logits, items, at) for at in (1.0, temperature)
            )
    return temperature


def _warnings(spec: ModelSpec, found: Findings) -> list[str]:
    warnings = []
    if found.size_bytes > LARGE_BYTES:
        warnings.append(f"{found.size_bytes / 1e6:.0f} MB of weights: one item takes {found.ms:.0f} ms on this machine")
    if found.after is None:
        warnings.append("not calibrated (no --calibrate): its confidence means nothing")
    elif found.test_after is None:
        warnings.append("its figures are measured on the very items it was calibrated on: give others with --test")
    if not _EDGES[0] < spec.temperature < _EDGES[1]:
        warnings.append(f"its temperature, {spec.temperature}, is the outermost that was tried: do its labels fit?")
    judged = found.test_after or found.after
    if judged is not None and judged.accuracy <= judged.floor:
        warnings.append("it is right no more often than always saying the commonest emotion: do its labels fit?")
    if judged is not None and judged.ece > judged.band[1]:
        warnings.append(
            f"still less well calibrated than chance explains: ECE {judged.ece:.3f}, above {judged.band[1]:.3f}"
        )
    for path, broken in found.unreadable.items():
        if broken:
            warnings.append(f"{broken} items of {Path(path).name} can't be read and are left out")
    for labelled in (found.fitted, found.judged):
        if labelled is not None and labelled.left_out:
            left = ", ".join(f"{count} {name}" for name, count in labelled.left_out.items())
            warnings.append(f"items of {labelled.path.name} that it has no class for are left out: {left}")
    if not found.prior_known:
        warnings.append("the label shares of its training set are not known (--prior): taken as equal")
    if spec.licence in ("unsettled", "non_commercial"):
        warnings.append(
            f"its licence state is {spec.licence}: it runs only with STREAMER_ACCEPT_LICENCES={spec.licence}"
        )
    return warnings


def _usage(spec: ModelSpec) -> str:
    """What the topology has to say to use a model."""
    more = ", vad_model: null, intent_model: null" if spec.modality == "text" else ""
    positions = spec.input.get("positions", _USUAL_TOKENS)
    more += f", max_tokens: {positions}" if positions < _USUAL_TOKENS else ""
    return f"sense_{spec.modality}: params: {{model: {spec.name}{more}}}"


def _framing(spec: ModelSpec) -> Any:
    return {"face": framing.face_framing, "voice": framing.voice_framing, "text": framing.text_framing}[spec.modality](
        spec
    )


def _spec_json(spec: ModelSpec) -> bytes:
    fields = {k: v for k, v in msgspec.to_builtins(spec).items() if k != "loaded_from"}
    return msgspec.json.format(msgspec.json.encode(fields), indent=2) + b"\n"


def _write_spec(spec: ModelSpec, folder: Path) -> None:
    (folder / "model.json").write_bytes(_spec_json(spec))
