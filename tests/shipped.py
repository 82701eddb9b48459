"""The topology that ships."""

from __future__ import annotations

from pathlib import Path

from streamer.topology.reading import load_topology

TOPOLOGY = load_topology(Path(__file__).parents[1] / "topology.yaml")
MODALITIES = TOPOLOGY.modalities
