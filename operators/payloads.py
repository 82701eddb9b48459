"""The structs of the wire contract (DESIGN §4): what travels on every topic, field by field.

Keyed by session unless it says otherwise. Times are Unix milliseconds UTC, boxes are pixels of the upright frame,
probabilities are in [0, 1], valence, arousal and dominance in [-1, 1]. A field that may be absent is `| None`.
No payload has a field for age, sex, gender, race, ethnicity, religion, health or orientation.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

import msgspec

from streamer.payloads import MODALITY_MARK, Keyed, Media, SessionKeyed

ModalityName = Annotated[str, msgspec.Meta(extra_json_schema={MODALITY_MARK: True})]
"""A modality that the topology declares; checked where a record is decoded (`streamer.modality.check_declared`)."""
MINORS_TOO = ("text", "behaviour")
"""The modalities that may be read of a minor, or of somebody whose age is not known; no other, whoever declares it."""
VadSource = Literal["measured", "derived", "none"]
Mode = Literal["full", "expressions_only"]
ModalityState = Literal["present", "absent", "idle", "no_consent"]

RAW_MEDIA_MS = 60_000
MAX_FRAME_BYTES = 512 * 1024


class VideoFrame(Media, frozen=True, kw_only=True):
    """One picture of a camera, as JPEG; `rotation` is the clockwise turn in degrees that makes it upright."""

    LONGEST_RETENTION_MS = RAW_MEDIA_MS

    source_id: str
    seq: int | None = None
    format: Literal["jpeg"] = "jpeg"
    width: int
    height: int
    rotation: Literal[0, 90, 180, 270] = 0
    mirrored: bool = False
    data: bytes


class AudioChunk(Media, frozen=True, kw_only=True):
    """A stretch of sound of any length; `event_time_ms` is the moment of its first sample."""

    LONGEST_RETENTION_MS = RAW_MEDIA_MS

    source_id: str
    seq: int | None = None
    format: str = "pcm_s16le"
    sample_rate_hz: int = 16000
    channels: int = 1
    data: bytes


class ChatMessage(Media, frozen=True, kw_only=True):
    """A line of chat; only `speaker` "user" is ever read by a model.

    `language` "", "und", "mul", "zxx" or "auto" says nothing of the language, as if it were left out.
    """

    UNSET_IF_ZERO = ("language",)

    message_id: str
    speaker: Literal["user", "other"]
    text: str
    language: str | None = None

    def may_be_recorded(self, consents: Sequence[Keyed | None], modality: str | None) -> bool:
        """Never what others write; of the user, only with consent."""
        return self.speaker == "user" and super().may_be_recorded(consents, modality)


class Consent(SessionKeyed, frozen=True, kw_only=True):
    """What one person allows now; the latest record counts and everything not granted is refused.

    A `disclosed_at_ms` of 0 or less is no disclosure: nothing is granted. `minor` has to be said: left out it counts as
    a minor's. Clients whose fields are never absent (proto3 without `optional`) say by `minor: false` that somebody is
    of age, and by `single_subject: false` that others in the picture agreed: they must set both on purpose.
    """

    FAILS_CLOSED = True
    MAY_NAME_OTHERS = True
    UNSET_IF_ZERO = ("disclosure_version", "disclosed_at_ms")

    user_id: str
    modalities: list[ModalityName] = []
    disclosure_version: str | None = None
    disclosed_at_ms: int | None = None
    expressions_only: bool = False
    minor: bool | None = None
    affect_ranking: bool = False
    single_subject: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.disclosed_at_ms is not None and self.disclosed_at_ms < 0:
            msgspec.structs.force_setattr(self, "disclosed_at_ms", None)

    def modality_names(self) -> Sequence[str]:
        """Those granted."""
        return self.modalities

    def grants(self, modality: str) -> bool:
        """Whether a modality may be read: the person was informed and has agreed, and minors are spared but by text."""
        disclosed = self.disclosed_at_ms is not None
        return disclosed and modality in self.modalities and (modality in MINORS_TOO or self.minor is False)


class Interaction(SessionKeyed, frozen=True, kw_only=True):
    """What a person did with an item; `request_id` "" is none. `position` 0 is the first one, `value` 0 a value."""

    UNSET_IF_ZERO = ("request_id",)

    interaction_id: str
    user_id: str
    item_id: str
    request_id: str | None = None
    position: int | None = None
    kind: Literal["impression", "click", "dwell", "like", "dislike", "skip", "complete", "rating"]
    value: float | None = None


class Candidate(msgspec.Struct, frozen=True, kw_only=True):
    """An item the platform would show, with the platform's own score."""

    item_id: str
    score: float
    features: dict[str, float] | None = None
    provenance: dict[str, Any] | None = None
    pinned_rank: int | None = None
    blocked: bool = False
    sponsored: bool = False


class CandidateList(SessionKeyed, frozen=True, kw_only=True):
    """The items a platform is about to show, best first by its own score; at most 5,000, and 900 kB.

    A score far below all others (-1e9, say) marks an item that must not be served: it stays last, whatever affect.
    `expires_ms` 0 never expires; `primary_item_id` and `category` "" are none. An item's `pinned_rank` 0 is the first
    place: leave it out where an item isn't pinned.
    """

    UNSET_IF_ZERO = ("primary_item_id", "category", "expires_ms")

    request_id: str
    user_id: str
    primary_item_id: str | None = None
    category: str | None = None
    expires_ms: int | None = None
    context: dict[str, Any] = {}
    items: list[Candidate]


class Mood(msgspec.Struct, frozen=True, kw_only=True):
    """Where an item lies in valence and arousal, both in [-1, 1], and the emotion it carries, in any case ("" is none).

    A scale of 1 to 9 (SAM) has to be brought to [-1, 1]: an item outside is refused.
    """

    valence: float
    arousal: float
    emotion: str | None = None

    def __post_init__(self) -> None:
        if not -1 <= self.valence <= 1 or not -1 <= self.arousal <= 1:
            raise ValueError("valence and arousal must lie in [-1, 1]")
        msgspec.structs.force_setattr(self, "emotion", (self.emotion or "").strip().lower() or None)


class Item(Keyed, frozen=True, kw_only=True):
    """A thing to recommend; the record key is `item_id`. `embedding` is 384 x float16, little-endian; empty is none."""

    UNSET_IF_ZERO = ("embedding",)

    item_id: str
    text: str
    tags: list[str] = []
    mood: Mood | None = None
    embedding: bytes | None = None
    provenance: dict[str, Any] | None = None
    blocked: bool = False


class Control(Keyed, frozen=True, kw_only=True):
    """A deployer's switch over the whole app; the record key is the app's name.

    None, or "", leaves the topology's value. A `cap` of 0 is one: affect moves nothing. A switch whose event time can't
    be right is thrown all the same.
    """

    COUNTS_WITHOUT_CLOCK = True

    app: str
    ranking_off: bool = False
    sensing_off: bool = False
    policy: Literal["affect", "noop", "shuffle"] | None = None
    goal: Literal["off", "lift", "match", "calm"] | None = None
    cap: float | None = None


class Observation(SessionKeyed, frozen=True, kw_only=True):
    """What one model made of one stretch of one modality; `event_time_ms` equals `end_ms`.

    `emotions` holds only what the model speaks of (its own classes, or what its words may be said of: `classes` in its
    model.json) and sums to 1 over it: an absent key means "cannot say".
    `embedding` is float16, little-endian. `absent` says "looked, nothing there", with its `reason`.
    """

    modality: ModalityName
    source_id: str
    start_ms: int
    end_ms: int
    emotions: dict[str, float] | None = None
    valence: float | None = None
    arousal: float | None = None
    dominance: float | None = None
    vad_source: VadSource = "none"
    intents: dict[str, float] | None = None
    embedding: bytes | None = None
    confidence: float = 0.0
    quality: dict[str, float] = {}
    faces: int | None = None
    box: tuple[float, float, float, float] | None = None
    absent: bool = False
    reason: str | None = None
    mode: Mode = "full"
    expressions: dict[str, float] | None = None
    model: str = ""
    source_kafka_ms: int

    def modality_names(self) -> Sequence[str]:
        """Its own."""
        return (self.modality,)


class ModalityReading(msgspec.Struct, frozen=True, kw_only=True):
    """One modality's part in an AffectEvent: `weight` sums to 1 over the present ones."""

    state: ModalityState
    weight: float = 0.0
    coverage: float = 0.0
    confidence: float = 0.0
    newest_ms: int | None = None


class AffectEvent(SessionKeyed, frozen=True, kw_only=True):
    """An estimate of expression over one window; `event_time_ms` equals `window_end_ms`.

    `emotions` sums to 1; `supported` says which modalities could speak for which emotion; an emotion nobody present
    supports is not listed. Provisional (`final` false) on `affect_live`, once and exact on `affect_events`.
    """

    event_id: str
    window_start_ms: int
    window_end_ms: int
    closed_at_ms: int | None = None
    revision: int
    final: bool
    emotions: dict[str, float] | None = None
    supported: dict[str, list[str]] = {}
    valence: float | None = None
    arousal: float | None = None
    dominance: float | None = None
    vad_source: VadSource = "none"
    intents: dict[str, float] | None = None
    compounds: list[tuple[str, str, float]] = []
    confidence: float = 0.0
    abstained: bool = False
    conflict: float = 0.0
    modalities: dict[str, ModalityReading] = {}
    models: dict[str, str] = {}
    calibration: str = ""
    expressions: dict[str, float] | None = None
    source_kafka_ms: int
    emitted_at_ms: int


class RankedItem(msgspec.Struct, frozen=True, kw_only=True):
    """An item at its new place; `reasons` are the contributions that add up to `score`."""

    item_id: str
    score: float
    base_rank: int
    position: int
    propensity: float | None = None
    provenance: dict[str, Any] | None = None
    reasons: dict[str, float]


class RankedList(SessionKeyed, frozen=True, kw_only=True):
    """A candidate list in its new order; (`request_id`, `revision`) identifies it."""

    request_id: str
    user_id: str
    revision: int
    cause: Literal["request", "affect"]
    policy: str
    arm: Literal["affect", "holdout"] = "affect"
    model: str = ""
    catalogue: str = ""
    affect_event_id: str | None = None
    affect_age_ms: int | None = None
    emitted_at_ms: int
    items: list[RankedItem]
