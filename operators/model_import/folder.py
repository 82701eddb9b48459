"""Import a model: write a folder that `kernels.engines` loads, or list all that is wrong with the request.

A Hugging Face folder is exported only once everything else is right, because the export takes a while.
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

from kernels import engines, model_input
from kernels.emotions import EMOTIONS
from kernels.engines import MODELS, Engine, Licence, ModelSpec
from operators.model_import import evaluation, hugging_face, signature
from operators.model_import.card import Findings, card, summary
from operators.model_import.hugging_face import FAMILIES
from operators.model_import.label_map import classes, parse_labels, read_label_map
from operators.model_import.labelled import LabelledSet, find_items, read_items, shared_items
from operators.model_import.source import Source, find_source
from streamer.errors import ConfigurationError, Problem

LARGE_BYTES = 100_000_000
"""Weights above this are warned of: GitHub's limit for a file, and more than all shipped models together."""
_USUAL_TOKENS = 64
"""The default `max_tokens` of `sense_text`."""
_TEMPERATURE_BOUNDS = (0.26, 7.9)
"""Just inside the range that `fit_temperature` searches."""
_NAME = re.compile(r"[a-z][a-z0-9_]{0,39}")
_LICENCE_FILES = ("LICENSE", "LICENSE.txt", "LICENSE.md", "NOTICE", "NOTICE.txt")

Report = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportRequest:
    """The arguments of `streamer model import`; `labels` and `prior` are written `name=value,name=value`."""

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
class ImportedModel:
    """The written model folder, with lines for the terminal: figures, warnings and its use in the topology."""

    spec: ModelSpec
    folder: Path
    figures: list[str]
    warnings: list[str]
    usage: str


@dataclass(slots=True)
class _CheckedRequest:
    """The parts of a request that are checked before the model is opened."""

    source: Source
    classes: dict[str, str | None]
    prior: dict[str, float]
    calibration_set: LabelledSet | None
    test_set: LabelledSet | None


def import_model(request: ImportRequest, report: Report = lambda _: None) -> ImportedModel:
    """Check, dry-run, calibrate and describe a model, and write its folder.

    Args:
        request: what to import and where to.
        report: called with a line on progress before each slow step.

    Raises:
        ConfigurationError: all that is wrong with the model or the request.
    """
    checked, problems = _check_request(request)
    with tempfile.TemporaryDirectory(prefix="streamer-import-") as made:
        folder = Path(made) / (request.name if _NAME.fullmatch(request.name) else "unnamed")  # reported as a problem
        folder.mkdir()
        if checked.source.onnx is not None:
            shutil.copyfile(checked.source.onnx, folder / "model.onnx")
        elif not problems:
            report(f"exporting {request.path} to ONNX")
            problems += _export(checked.source, request, folder)
        spec = None
        if (folder / "model.onnx").exists():
            spec, more = _describe(request, checked, folder)
            problems += more
        if problems or spec is None:
            raise ConfigurationError(f"import of {request.path}", problems)
        return _finish(request, checked, spec, folder, report)


def _check_request(request: ImportRequest) -> tuple[_CheckedRequest, list[Problem]]:
    if request.modality not in FAMILIES:
        why = f"{request.modality!r} is nothing that an encoder reads here: use {', '.join(FAMILIES)}"
        raise ConfigurationError("model import", [Problem("--modality", why)])
    problems = _destination_problems(request)
    source, more = find_source(request.path, request.modality)
    problems += more
    given: dict[str, str | None] = {}
    if request.label_map is not None:
        try:
            given |= read_label_map(request.label_map)
        except ValueError as error:
            problems.append(Problem("--label-map", f"{request.label_map} {error}"))
    given |= parse_labels(request.labels)
    named, more = classes(source.names, given) if request.path.exists() else ({}, [])
    problems += more
    prior, more = _read_prior(request.prior, {to for to in named.values() if to})
    problems += more
    found: list[LabelledSet | None] = []
    for option, path in (("--calibrate", request.calibrate), ("--test", request.test)):
        labelled = None
        if path is not None:
            labelled, more = find_items(path, request.modality, named, option)
            problems += more
        found.append(labelled)
    calibration_set, test_set = found
    if test_set is not None and request.calibrate is None:
        problems.append(Problem("--test", "needs --calibrate: it judges what was fitted there"))
    if calibration_set and test_set and (shared := shared_items(calibration_set, test_set)):
        problems.append(Problem("--test", f"shares {shared} items with --calibrate, byte for byte: judge on others"))
    return _CheckedRequest(source, named, prior, calibration_set, test_set), problems


def _destination_problems(request: ImportRequest) -> list[Problem]:
    problems = []
    if not _NAME.fullmatch(request.name):
        problems.append(Problem("--name", f"{request.name!r} must be small letters, digits and _, a letter first"))
    elif (MODELS / request.name).exists():
        problems.append(Problem("--name", f"{request.name} is the name of a folder of models/: choose another"))
    elif request.out is not None and (request.out / request.name).exists():
        target = request.out / request.name
        problems.append(Problem("--name", f"{target} is there already: remove it, or choose another"))
    if request.out is None:
        problems.append(
            Problem("--out", "say where to write it, or set STREAMER_MODELS, the folder of imported models")
        )
    elif request.out.exists() and not request.out.is_dir():
        problems.append(Problem("--out", f"{request.out} is no folder"))
    return problems


def _read_prior(text: str, emotions: set[str]) -> tuple[dict[str, float], list[Problem]]:
    """Parse `happiness=.6,sadness=.4` into shares that sum to 1; empty for an empty text."""
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


def _export(source: Source, request: ImportRequest, folder: Path) -> list[Problem]:
    try:
        hugging_face.export(source.folder, source.config, folder / "model.onnx")
        if request.modality == "text" and not (source.folder / "tokenizer.json").exists():
            hugging_face.write_tokenizer(source.folder, folder / "tokenizer.json")
            source.facts = {"tokenizer": json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))}
    except ValueError as error:
        return [Problem("PATH", str(error))]
    return []


def _describe(request: ImportRequest, checked: _CheckedRequest, folder: Path) -> tuple[ModelSpec | None, list[Problem]]:
    """Make the spec, uncalibrated, of a folder with model.onnx, or list what is wrong with the model's shapes."""
    try:
        found = signature.read_signature(folder / "model.onnx")
    except ValueError as error:
        return None, [Problem("PATH", f"{request.path}: {error}")]
    input_format = signature.input_format(found, request.modality, checked.source.facts, checked.source.config)
    problems = input_format.problems + signature.output_problems(found, len(checked.classes))
    if problems or not checked.classes:
        return None, problems
    labels = [name for name in EMOTIONS if name in checked.classes.values()]
    spec = ModelSpec(
        name=request.name,
        version="",
        modality=request.modality,
        labels=labels,
        classes=checked.classes,
        prior=checked.prior or {name: round(1 / len(labels), 6) for name in labels},
        licence=request.licence,
        input=input_format.input,
        outputs={port.name: " x ".join("n" if n is None else str(n) for n in port.shape) for port in found.outputs},
        embedding_width=signature.embedding_width(found, request.modality),
        sha256=hashlib.sha256((folder / "model.onnx").read_bytes()).hexdigest(),
    )
    return spec, []


def _finish(
    request: ImportRequest, checked: _CheckedRequest, spec: ModelSpec, folder: Path, report: Report
) -> ImportedModel:
    """Dry-run and calibrate a described model, write its card and licence files, and move the folder to its place."""
    if request.modality == "text" and not (folder / "tokenizer.json").exists():
        shutil.copyfile(checked.source.folder / "tokenizer.json", folder / "tokenizer.json")
    _write_spec(spec, folder)
    size = (folder / "model.onnx").stat().st_size
    found = Findings(request.path.resolve().name, size, request.threads, prior_known=bool(checked.prior))
    report(f"a dry run of {size / 1e6:.1f} MB")
    try:
        engine = engines.load(request.name, threads=request.threads, models=folder.parent)
        input_format = _input_format(engine.spec)
    except (engines.ModelFolderError, RuntimeError) as error:  # OpenVINO raises RuntimeError if it can't compile
        raise ConfigurationError(f"import of {request.path}", [Problem("dry run", str(error).strip()[:300])]) from error
    problems, found.ms = evaluation.dry_run(engine, input_format)
    if problems:
        raise ConfigurationError(f"import of {request.path}", problems)
    spec = msgspec.structs.replace(spec, temperature=_calibrate(engine, input_format, checked, found, report))
    spec = msgspec.structs.replace(spec, version=hashlib.sha256(_spec_json(spec)).hexdigest()[:8])
    found.warnings = [*checked.source.warnings, *_warnings(spec, found)]
    _write_spec(spec, folder)
    (folder / "card.md").write_text(card(spec, found), encoding="utf-8")
    for name in _LICENCE_FILES:
        if (checked.source.folder / name).is_file():
            shutil.copyfile(checked.source.folder / name, folder / name)
    assert request.out is not None  # noqa: S101 - checked first
    target = request.out / request.name
    request.out.mkdir(parents=True, exist_ok=True)
    partial = request.out / f".{request.name}.partial"
    shutil.rmtree(partial, ignore_errors=True)
    shutil.copytree(folder, partial)
    partial.rename(target)
    return ImportedModel(spec, target, summary(found), found.warnings, _usage(spec))


def _calibrate(engine: Engine, input_format: Any, checked: _CheckedRequest, found: Findings, report: Report) -> float:
    """Fit the temperature, 1 without labelled items, and add the figures to `found`."""
    calibration_set, test_set, modality = checked.calibration_set, checked.test_set, engine.spec.modality
    if calibration_set is None:
        return 1.0
    total = len(calibration_set.items)
    report(f"reading {total} labelled items of {calibration_set.path}")
    values, items = read_items(calibration_set.items, input_format, modality)
    if len(items) < total / 2:
        problem = f"{total - len(items)} of {total} items can't be read"
        raise ConfigurationError(str(calibration_set.path), [Problem("--calibrate", problem)])
    found.calibration_set, found.unreadable[str(calibration_set.path)] = calibration_set, total - len(items)
    logits = evaluation.compute_logits(engine, input_format, values)
    temperature = round(evaluation.temperature(engine.spec, logits, items), 4)
    found.before, found.after = (evaluation.figures(engine.spec, logits, items, at) for at in (1.0, temperature))
    if test_set is not None:
        report(f"judging on {len(test_set.items)} items of {test_set.path}")
        values, items = read_items(test_set.items, input_format, modality)
        if items:
            logits = evaluation.compute_logits(engine, input_format, values)
            found.test_set, found.unreadable[str(test_set.path)] = test_set, len(test_set.items) - len(items)
            found.test_before, found.test_after = (
                evaluation.figures(engine.spec, logits, items, at) for at in (1.0, temperature)
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
    if not _TEMPERATURE_BOUNDS[0] < spec.temperature < _TEMPERATURE_BOUNDS[1]:
        warnings.append(f"its temperature, {spec.temperature}, is the outermost that was tried: do its labels fit?")
    figures = found.test_after or found.after
    if figures is not None and figures.accuracy <= figures.floor:
        warnings.append("it is right no more often than always saying the commonest emotion: do its labels fit?")
    if figures is not None and figures.ece > figures.band[1]:
        warnings.append(
            f"still less well calibrated than chance explains: ECE {figures.ece:.3f}, above {figures.band[1]:.3f}"
        )
    for path, broken in found.unreadable.items():
        if broken:
            warnings.append(f"{broken} items of {Path(path).name} can't be read and are left out")
    for labelled in (found.calibration_set, found.test_set):
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
    """Return the line of the topology that uses a model."""
    more = ", vad_model: null, intent_model: null" if spec.modality == "text" else ""
    positions = spec.input.get("positions", _USUAL_TOKENS)
    more += f", max_tokens: {positions}" if positions < _USUAL_TOKENS else ""
    return f"sense_{spec.modality}: params: {{model: {spec.name}{more}}}"


def _input_format(spec: ModelSpec) -> Any:
    readers = {"face": model_input.face_input, "voice": model_input.voice_input, "text": model_input.text_input}
    return readers[spec.modality](spec)


def _spec_json(spec: ModelSpec) -> bytes:
    fields = {k: v for k, v in msgspec.to_builtins(spec).items() if k != "loaded_from"}
    return msgspec.json.format(msgspec.json.encode(fields), indent=2) + b"\n"


def _write_spec(spec: ModelSpec, folder: Path) -> None:
    (folder / "model.json").write_bytes(_spec_json(spec))
