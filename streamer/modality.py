"""Modality: one kind of signal that is sensed, as topology.yaml declares it, once, under `modalities`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

import msgspec

from streamer.errors import PayloadError
from streamer.event_time import Duration
from streamer.payloads import Keyed

Share = Annotated[float, msgspec.Meta(ge=0, le=1)]


class Modality(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What topics, windows, fusion and consent need to know of a modality; its name is its key under `modalities`.

    Args:
        topic: where what people show, say, write or do arrives; an operator that senses it reads this. None where its
            observations come from elsewhere.
        half_life: evidence weighs half as much after this time; 0 lets it count in its own windows only.
        evidence: whether it is evidence of emotions. One that isn't (what a person does with items) can state intents.
        reliability: in [0, 1], how often it shows what the person does, at full quality; needed where it is evidence.
        sharpness: in [0, 10], how many outputs' worth of evidence the average over a window is.
        sparse: it comes when it comes (chat), so no window waits for it.

    A model's own calibration is on recordings like those it was trained on; `reliability` and `sharpness` correct it
    for what arrives here (models/fuser fits both).
    """

    topic: str | None = None
    half_life: Duration = Duration(0)
    evidence: bool = True
    reliability: Share | None = None
    sharpness: Annotated[float, msgspec.Meta(ge=0, le=10)] = 1.0
    sparse: bool = False

    def __post_init__(self) -> None:
        if self.evidence and self.reliability is None:
            raise ValueError("reliability is missing: how often it shows what the person does, in [0, 1]")
        if not self.evidence and self.reliability is not None:
            raise ValueError("reliability means nothing without evidence: leave it out, or say evidence: true")


def check_declared(payload: Keyed, modalities: Mapping[str, Modality]) -> int:
    """How many modalities a payload names that the topology doesn't declare, and that may be left aside.

    Raises:
        PayloadError: `undecodable`; it names one, and must not. The name is not quoted.
    """
    unknown = sum(name not in modalities for name in payload.modality_names())
    if unknown and not payload.MAY_NAME_OTHERS:
        what = f"{type(payload).__name__} names a modality that the topology does not declare"
        raise PayloadError("undecodable", what)
    return unknown
