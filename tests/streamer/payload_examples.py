"""One full example of every payload; their bytes, as hex in `golden/`, must not change within a major.

`python -m tests.streamer.payload_examples` writes the bytes of payloads that have none yet; it never changes one.
"""

from __future__ import annotations

from pathlib import Path

from operators.payloads import (
    AffectEvent,
    AudioChunk,
    Candidate,
    CandidateList,
    ChatMessage,
    Consent,
    Control,
    Interaction,
    Item,
    ModalityReading,
    Mood,
    Observation,
    RankedItem,
    RankedList,
    VideoFrame,
)
from streamer.payloads import AuditEntry, DeadLetter, Keyed, LateRecord, Tick, WorkerReport, encode

GOLDEN = Path(__file__).parent / "golden"
AT = 1_700_000_000_000
ME = "s-1"

EXAMPLES: tuple[Keyed, ...] = (
    VideoFrame(
        session_id=ME, event_time_ms=AT, source_id="cam", seq=7, width=640, height=480, rotation=90, mirrored=True,
        data=b"\xff\xd8\xff\xd9",
    ),
    AudioChunk(session_id=ME, event_time_ms=AT, source_id="mic", seq=None, data=b"\x00\x01\xfe\xff"),
    ChatMessage(session_id=ME, event_time_ms=AT, message_id="m-1", speaker="user", text="schön, danke!", language="de"),
    Consent(
        session_id=ME, event_time_ms=AT, user_id="u-1", modalities=["face", "text"], disclosure_version="2",
        disclosed_at_ms=AT - 1000, expressions_only=True, minor=False, affect_ranking=True, single_subject=False,
    ),
    Interaction(
        session_id=ME, event_time_ms=AT, interaction_id="i-1", user_id="u-1", item_id="song-1", request_id="r-1",
        position=2, kind="dwell", value=12.5,
    ),
    CandidateList(
        session_id=ME, event_time_ms=AT, request_id="r-1", user_id="u-1", primary_item_id="song-0", category="music",
        expires_ms=AT + 60_000, context={"page": "home", "slots": 3},
        items=[
            Candidate(item_id="song-1", score=0.75, features={"fresh": 1.0}, provenance={"ai_generated": False}),
            Candidate(item_id="song-2", score=0.5, pinned_rank=0, blocked=True, sponsored=True),
        ],
    ),
    Item(
        event_time_ms=AT, item_id="song-1", text="A slow song", tags=["calm", "piano"],
        mood=Mood(valence=0.25, arousal=-0.5, emotion="trust"), embedding=b"\x00\x3c\x00\xbc",
        provenance={"generator": "a label", "ai_generated": False}, blocked=False,
    ),
    Control(event_time_ms=AT, app="affect", ranking_off=True, sensing_off=False, policy="noop", goal="calm", cap=0.1),
    Observation(
        session_id=ME, event_time_ms=AT, modality="face", source_id="cam", start_ms=AT - 100, end_ms=AT,
        emotions={"happiness": 0.75, "neutral": 0.25}, valence=0.5, arousal=-0.25, dominance=0.0, vad_source="derived",
        intents={"continue": 1.0}, embedding=b"\x00\x3c", confidence=0.625, quality={"sharpness": 0.5}, faces=1,
        box=(1.0, 2.0, 64.0, 64.0), absent=False, reason=None, mode="full", expressions={"smiling": 0.5},
        model="face_affect@1", source_kafka_ms=AT + 5,
    ),
    AffectEvent(
        session_id=ME, event_time_ms=AT, event_id=f"{ME}:{AT}", window_start_ms=AT - 2000, window_end_ms=AT,
        closed_at_ms=AT + 160, revision=0, final=True, emotions={"happiness": 0.75, "neutral": 0.25},
        supported={"happiness": ["face", "text"], "neutral": ["face"]}, valence=0.5, arousal=0.25, dominance=0.0,
        vad_source="measured", intents={"continue": 0.5, "none": 0.5}, compounds=[("happiness", "trust", 0.125)],
        confidence=0.75, abstained=False, conflict=0.125,
        modalities={
            "face": ModalityReading(state="present", weight=1.0, coverage=0.5, confidence=0.625, newest_ms=AT),
            "voice": ModalityReading(state="no_consent"),
        },
        models={"face": "face_affect@1"}, calibration="1", expressions={"smiling": 0.5}, source_kafka_ms=AT + 5,
        emitted_at_ms=AT + 170,
    ),
    RankedList(
        session_id=ME, event_time_ms=AT, request_id="r-1", user_id="u-1", revision=2, cause="affect", policy="affect@1",
        arm="affect", model="text_affect@1", catalogue="1", affect_event_id=f"{ME}:{AT}", affect_age_ms=170,
        emitted_at_ms=AT + 171,
        items=[
            RankedItem(
                item_id="song-1", score=0.875, base_rank=2, position=1, propensity=None,
                provenance={"ai_generated": False}, reasons={"base": 0.75, "affect": 0.125},
            )
        ],
    ),
    AuditEntry(event_time_ms=AT, kind="consent", subject=ME, detail={"modalities": "face,text"}),
    WorkerReport(
        event_time_ms=AT, worker="w-1", operator="sense_face", partitions=[0, 3], lag=2, counts={"busy": 1},
        latency_ms={"encode": {"p95": 3.5}}, models={"face": "face_affect@1"}, backend="openvino",
        reasons_against={"tensorrt": ["no GPU"]}, resident_bytes=1024,
        held_back=3, clock_offsets_ms={"s-2": -180_000},
    ),
    DeadLetter(
        event_time_ms=AT, operator="sense_face", topic="video_frames", partition=3, offset=41, key=b"s-1",
        kafka_ms=AT, reason="undecodable", detail="truncated JPEG",
    ),
    LateRecord(
        event_time_ms=AT, operator="sense_face", topic="video_frames", partition=3, offset=41, key=b"s-1",
        kafka_ms=AT, reason="late", detail="window closed",
    ),
    Tick(event_time_ms=AT),
)  # fmt: skip


def golden(payload: type[Keyed]) -> bytes:
    """The committed bytes of a payload's example."""
    return bytes.fromhex((GOLDEN / f"{payload.__name__}.hex").read_text())


if __name__ == "__main__":
    for example in EXAMPLES:
        path = GOLDEN / f"{type(example).__name__}.hex"
        if not path.exists():
            path.write_text(encode(example).hex(" ", 32) + "\n")
