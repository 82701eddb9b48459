"""Describe the machine, the versions and the models that a measurement depends on."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from pathlib import Path

import psutil

from kernels import engines
from streamer.brokers.embedded.jars import KAFKA

_PACKAGES = ("affectstream", "aiokafka", "faust-streaming", "numpy", "opencv-python-headless", "openvino", "tokenizers")


def describe() -> dict[str, object]:
    """Collect CPU, cores, memory, load, operating system, versions, and the models with their hashes."""
    load = os.getloadavg()
    return {
        "cpu": _cpu_model(),
        "cores": len(psutil.Process().cpu_affinity()) if hasattr(psutil.Process, "cpu_affinity") else os.cpu_count(),
        "memory_mib": psutil.virtual_memory().total >> 20,
        "load_1min": round(load[0], 2),
        "system": f"{platform.system()} {platform.release()}",
        "versions": {"python": platform.python_version(), "kafka": KAFKA, **_versions()},
        "models": {spec.id: spec.sha256[:12] for spec in engines.all_specs()},
    }


def lines(facts: dict[str, object]) -> list[str]:
    """Write the facts of `describe` as lines of text."""
    versions, models = facts["versions"], facts["models"]
    assert isinstance(versions, dict) and isinstance(models, dict)  # noqa: S101, PT018 - describe() made them
    return [
        f"machine: {facts['cpu']}, {facts['cores']} cores, {facts['memory_mib']} MiB, {facts['system']}, "
        f"load {facts['load_1min']} when it began",
        "versions: " + ", ".join(f"{name} {version}" for name, version in versions.items()),
        "models: " + ", ".join(f"{name} ({digest})" for name, digest in models.items()),
    ]


def _cpu_model() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _versions() -> dict[str, str]:
    found = {}
    for package in _PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = "checkout"
    return found
