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

    source_id: str  # which camera, stable over the session
    seq: int | None = None  # counts up by 1; None: not counted
    format: Literal["jpeg"] = "jpeg"  # always jpeg
    width: int  # pixels, as encoded
    height: int  # pixels, as encoded
    rotation: Literal[0, 90, 180, 270] = 0  # degrees clockwise that make it upright
    mirrored: bool = False  # as selfie cameras show it; read all the same
    data: bytes  # the JPEG, at most 512 KiB


class AudioChunk(Media, frozen=True, kw_only=True):
    """A stretch of sound of any length; `event_time_ms` is the moment of its first sample."""

    LONGEST_RETENTION_MS = RAW_MEDIA_MS

    source_id: str  # which microphone, stable over the session
    seq: int | None = None  # counts up by 1; tells chunks of one stamp apart; None: not counted
    format: str = "pcm_s16le"  # always pcm_s16le
    sample_rate_hz: int = 16000  # Hz, always 16000
    channels: int = 1  # always 1
    data: bytes  # 16-bit samples, little-endian, at most 10 s


class ChatMessage(Media, frozen=True, kw_only=True):
    """A line of chat; only `speaker` "user" is ever read by a model.

    `language` "", "und", "mul", "zxx" or "auto" says nothing of the language, as if it were left out.
    """

    UNSET_IF_ZERO = ("language",)

    message_id: str  # unique in the session
    speaker: Literal["user", "other"]  # whether the person wrote it; others' lines are never read
    text: str  # the line; its first 4,000 characters are read
    language: str | None = None  # BCP 47; "" or None: told from the text

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

    user_id: str  # whose session it is
    modalities: list[ModalityName] = []  # what may be read; names not declared here are left aside
    disclosure_version: str | None = None  # what the person was told; "" is None
    disclosed_at_ms: int | None = None  # Unix ms at which they were told; 0, negative or None: never, nothing is read
    expressions_only: bool = False  # only how it looks and sounds, no emotions
    minor: bool | None = None  # False: of age; True or None: face and voice are not read
    affect_ranking: bool = False  # whether affect may change the order of items
    single_subject: bool = True  # read a picture only where one face is in it

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

    interaction_id: str  # unique in the session
    user_id: str  # whose session it is
    item_id: str  # the item
    request_id: str | None = None  # of the list it was in; "" is None
    position: int | None = None  # its place in the list, from 0
    kind: Literal["impression", "click", "dwell", "like", "dislike", "skip", "complete", "rating"]  # what was done
    value: float | None = None  # of a dwell seconds, of a rating the rating


class Candidate(msgspec.Struct, frozen=True, kw_only=True):
    """An item the platform would show, with the platform's own score."""

    item_id: str  # of catalogue_items
    score: float  # your own, any scale, higher is better; -1e9 and the like: never
    features: dict[str, float] | None = None  # yours, not read
    provenance: dict[str, Any] | None = None  # yours, handed through
    pinned_rank: int | None = None  # its place, from 0; None: not pinned
    blocked: bool = False  # never served
    sponsored: bool = False  # keeps its place among sponsored ones


class CandidateList(SessionKeyed, frozen=True, kw_only=True):
    """The items a platform is about to show, best first by its own score; at most 5,000, and 900 kB.

    A score far below all others (-1e9, say) marks an item that must not be served: it stays last, whatever affect.
    `expires_ms` 0 never expires; `primary_item_id` and `category` "" are none. An item's `pinned_rank` 0 is the first
    place: leave it out where an item isn't pinned.
    """

    UNSET_IF_ZERO = ("primary_item_id", "category", "expires_ms")

    request_id: str  # unique in the session; a list comes back under it
    user_id: str  # whose session it is
    primary_item_id: str | None = None  # what is being watched or read; "" is None
    category: str | None = None  # of the page; "" is None
    expires_ms: int | None = None  # Unix ms after which it is not ranked again; 0 or None: never
    context: dict[str, Any] = {}  # yours, not read
    items: list[Candidate]  # best first by your score, at most 5,000


class Mood(msgspec.Struct, frozen=True, kw_only=True):
    """Where an item lies in valence and arousal, both in [-1, 1], and the emotion it carries, in any case ("" is none).

    A scale of 1 to 9 (SAM) has to be brought to [-1, 1]: an item outside is refused.
    """

    valence: float  # [-1, 1], unpleasant to pleasant
    arousal: float  # [-1, 1], calm to excited
    emotion: str | None = None  # one of the nine, in any case; "" is None

    def __post_init__(self) -> None:
        if not -1 <= self.valence <= 1 or not -1 <= self.arousal <= 1:
            raise ValueError("valence and arousal must lie in [-1, 1]")
        msgspec.structs.force_setattr(self, "emotion", (self.emotion or "").strip().lower() or None)


class Item(Keyed, frozen=True, kw_only=True):
    """A thing to recommend; the record key is `item_id`. `embedding` is 384 x float16, little-endian; empty is none."""

    UNSET_IF_ZERO = ("embedding",)

    item_id: str  # the record key
    text: str  # title and description
    tags: list[str] = []  # words for it
    mood: Mood | None = None  # where it lies; None: derived from its text
    embedding: bytes | None = None  # 384 x float16, little-endian; empty is None
    provenance: dict[str, Any] | None = None  # yours, handed through
    blocked: bool = False  # never served


class Control(Keyed, frozen=True, kw_only=True):
    """A deployer's switch over the whole app; the record key is the app's name.

    None, or "", leaves the topology's value. A `cap` of 0 is one: affect moves nothing. A switch whose event time can't
    be right is thrown all the same.
    """

    COUNTS_WITHOUT_CLOCK = True

    app: str  # the topology's name, and the record key
    ranking_off: bool = False  # lists come back in your order
    sensing_off: bool = False  # the kill switch: nothing is read
    policy: Literal["affect", "noop", "shuffle"] | None = None  # None or "": the topology's
    goal: Literal["off", "lift", "match", "calm"] | None = None  # what ranking is for; None or "": the topology's
    cap: float | None = None  # [0, 1], how much affect may add to a score; None: the topology's; 0: nothing


class Observation(SessionKeyed, frozen=True, kw_only=True):
    """What one model made of one stretch of one modality; `event_time_ms` equals `end_ms`.

    `emotions` holds only what the model speaks of (its own classes, or what its words may be said of: `classes` in its
    model.json) and sums to 1 over it: an absent key means "cannot say".
    `embedding` is float16, little-endian. `absent` says "looked, nothing there", with its `reason`.
    """

    modality: ModalityName  # whose it is
    source_id: str  # camera, microphone or message
    start_ms: int  # Unix ms, its first moment
    end_ms: int  # Unix ms, its last moment; equals event_time_ms
    emotions: dict[str, float] | None = None  # probabilities, sum 1 over those that the model speaks of
    valence: float | None = None  # [-1, 1]
    arousal: float | None = None  # [-1, 1]
    dominance: float | None = None  # [-1, 1]
    vad_source: VadSource = "none"  # whether these were measured or derived from the emotions
    intents: dict[str, float] | None = None  # probabilities of session intents, sum 1
    embedding: bytes | None = None  # float16, little-endian; None unless STREAMER_EMBEDDINGS=1
    confidence: float = 0.0  # [0, 1], calibrated; 0 where absent
    quality: dict[str, float] = {}  # what confidence was judged by, by name
    faces: int | None = None  # in the picture; None: not a picture
    box: tuple[float, float, float, float] | None = None  # left, top, width, height of the face, upright, in pixels
    absent: bool = False  # looked, and nothing was there or might be read
    reason: str | None = None  # why it is absent
    mode: Mode = "full"  # how it might be read
    expressions: dict[str, float] | None = None  # how it looks or sounds, in expressions_only
    model: str = ""  # name@version; "": none was asked
    source_kafka_ms: int  # Kafka time of the medium behind it

    def modality_names(self) -> Sequence[str]:
        """Its own."""
        return (self.modality,)


class ModalityReading(msgspec.Struct, frozen=True, kw_only=True):
    """One modality's part in an AffectEvent: `weight` sums to 1 over the present ones."""

    state: ModalityState  # whether it could speak for the window
    weight: float = 0.0  # [0, 1], its part in the estimate; sums to 1 over the present ones
    coverage: float = 0.0  # [0, 1], how much of the window it saw
    confidence: float = 0.0  # [0, 1], mean of its evidence
    newest_ms: int | None = None  # Unix ms of its newest evidence; None: none


class AffectEvent(SessionKeyed, frozen=True, kw_only=True):
    """An estimate of expression over one window; `event_time_ms` equals `window_end_ms`.

    `emotions` sums to 1; `supported` says which modalities could speak for which emotion; an emotion nobody present
    supports is not listed. Provisional (`final` false) on `affect_live`, once and exact on `affect_events`.
    """

    event_id: str  # session_id:window_end_ms
    window_start_ms: int  # Unix ms, first moment of the window
    window_end_ms: int  # Unix ms, first moment after it; equals event_time_ms
    closed_at_ms: int | None = None  # Kafka time at which it closed; None: provisional
    revision: int  # 0 of a final; else grows with each newer provisional
    final: bool  # whether nothing can change it any more
    emotions: dict[str, float] | None = None  # probabilities, sum 1; None: nothing to tell or expressions_only
    supported: dict[str, list[str]] = {}  # emotion to the modalities that could speak for it
    valence: float | None = None  # [-1, 1]
    arousal: float | None = None  # [-1, 1]
    dominance: float | None = None  # [-1, 1]
    vad_source: VadSource = "none"  # whether these were measured or derived
    intents: dict[str, float] | None = None  # probabilities of session intents, sum 1
    compounds: list[tuple[str, str, float]] = []  # two emotions and how strongly both show, as love is joy and trust
    confidence: float = 0.0  # [0, 1], calibrated
    abstained: bool = False  # too unsure to name an emotion
    conflict: float = 0.0  # [0, 1], mean difference of the modalities
    modalities: dict[str, ModalityReading] = {}  # each modality's part
    models: dict[str, str] = {}  # name to version of those asked
    calibration: str = ""  # by which it is calibrated
    expressions: dict[str, float] | None = None  # how it looks and sounds, in expressions_only
    source_kafka_ms: int  # greatest Kafka time of the media behind it
    emitted_at_ms: int  # Unix ms at which it was written; the only field that differs when the log is read again


class RankedItem(msgspec.Struct, frozen=True, kw_only=True):
    """An item at its new place; `reasons` are the contributions that add up to `score`."""

    item_id: str  # the item
    score: float  # the sum of its reasons, your score brought to [0, 1]; -1: never
    base_rank: int  # its place by your score, from 0
    position: int  # its place now, from 0
    propensity: float | None = None  # [0, 1], how probable this place was; None: not drawn
    provenance: dict[str, Any] | None = None  # yours, handed through
    reasons: dict[str, float]  # what adds up to its score, by name


WithoutAffect = Literal["off", "no_consent", "foreign_partition", "no_event", "abstained", "stale", "unsure"]


class RankedList(SessionKeyed, frozen=True, kw_only=True):
    """A candidate list in its new order; (`request_id`, `revision`) identifies it."""

    request_id: str  # of the CandidateList
    user_id: str  # whose session it is
    revision: int  # 0 of the first answer; grows when affect moves it
    cause: Literal["request", "affect"]  # what made it
    policy: str  # by which it was ranked
    arm: Literal["affect", "holdout"] = "affect"  # holdout: ranked without affect, to compare
    model: str = ""  # of the ranking
    catalogue: str = ""  # which state of the catalogue
    affect_event_id: str | None = None  # the event that moved it; None: none did
    affect_age_ms: int | None = None  # how old that was; None: none
    without_affect: WithoutAffect | None = None  # why no affect counted; None: it did
    emitted_at_ms: int  # Unix ms at which it was written
    items: list[RankedItem]  # the new order, at most `top`; pinned ones never left out
