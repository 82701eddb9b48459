"""Voice observations from chunks cut anywhere, lost, repeated, malformed or refused, by the real model and detector."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray

from kernels.emotions import SEVEN
from operators.payloads import AudioChunk, Consent, Control, Observation
from operators.sense_voice import Params, SenseVoice, confidence
from streamer.errors import RefusedUseError
from streamer.event_time import Duration, ManualClock
from streamer.operator import Context
from streamer.payloads import Refusal
from streamer.records import Origin, Record
from streamer.settings import load_settings
from tests.voices import pause, read_pcm

START_MS = 1_790_000_000_000
SPEECH = np.concatenate([pause(1.0), read_pcm("anger"), pause(1.5), read_pcm("sadness"), pause(1.0)])


def granted(session_id: str = "s1", **changes: Any) -> Consent:
    fields: dict[str, Any] = {"modalities": ["voice"], "disclosed_at_ms": 1, "minor": False, **changes}
    return Consent(session_id=session_id, event_time_ms=START_MS, user_id="u", **fields)


def chunk(samples: NDArray[np.int16], at_ms: int, offset: int, **changes: Any) -> Record[AudioChunk]:
    fields: dict[str, Any] = {"session_id": "s1", "source_id": "mic", "data": samples.tobytes(), **changes}
    payload = AudioChunk(event_time_ms=at_ms, **fields)
    return Record(payload.session_id, at_ms, at_ms + 50, payload, Origin("audio_chunks", 0, offset))


def stream(samples: NDArray[np.int16], lengths_ms: Sequence[int], **changes: Any) -> list[Record[AudioChunk]]:
    """Samples to chunks of these lengths in turn, over and over, stamped by their first sample."""
    records, at_ms = list[Record[AudioChunk]](), 0
    while at_ms * 16 < len(samples):
        length_ms = lengths_ms[len(records) % len(lengths_ms)]
        part = samples[at_ms * 16 : (at_ms + length_ms) * 16]
        records.append(chunk(part, START_MS + at_ms, len(records), **changes))
        at_ms += length_ms
    return records


async def opened(
    *consents: Consent, controls: Sequence[Control] = (), params: Params | None = None, **settings: Any
) -> SenseVoice:
    tables: dict[str, dict[str, Any]] = {"consents": {c.session_id: c for c in consents or (granted(),)}}
    tables["controls"] = {c.app: c for c in controls}
    chosen = load_settings(context="demo", threads=1, **settings)
    context = Context("sense_voice", chosen, ManualClock(START_MS), tables=tables)
    operator = SenseVoice(params or Params(), context)
    await operator.open()
    return operator


async def told(operator: SenseVoice, records: Sequence[Record[Any]], batch: int = 8) -> list[Any]:
    out: list[Any] = []
    for start in range(0, len(records), batch):
        out += [r.payload for r in await operator.process(records[start : start + batch])]
    return out


def identity(observation: Observation) -> tuple[str, str, int, int]:
    return observation.session_id, observation.source_id, observation.start_ms, observation.end_ms


async def test_speech_gives_emotions_that_sum_to_one_and_grow_with_the_utterance() -> None:
    heard = [o for o in await told(await opened(), stream(SPEECH, [100])) if not o.absent]
    assert heard
    for o in heard:
        assert set(o.emotions) == set(SEVEN)
        assert sum(o.emotions.values()) == pytest.approx(1.0, abs=1e-9)
        assert 600 <= o.end_ms - o.start_ms <= 3000
        assert (o.event_time_ms, o.modality, o.vad_source, o.embedding) == (o.end_ms, "voice", "derived", None)
        assert 1 / 7 <= o.confidence <= max(o.emotions.values()) + 1e-4
        assert o.model.startswith("voice_affect@")
    lengths = [o.end_ms - o.start_ms for o in heard]
    assert lengths[:3] == sorted(lengths[:3])
    first = [o for o in heard if o.start_ms < heard[0].end_ms][-1]
    assert max(first.emotions, key=first.emotions.get) == "anger"
    assert max(heard[-1].emotions, key=heard[-1].emotions.get) == "sadness"


async def test_while_input_flows_every_half_hop_has_one_observation() -> None:
    ends = [o.end_ms for o in await told(await opened(), stream(SPEECH, [100]))]
    assert ends == list(range(ends[0], START_MS + len(SPEECH) // 16 + 1, 250))
    assert ends[0] <= START_MS + 1000
    assert all(end % 250 == 0 for end in ends)


async def test_silence_is_absent_with_its_reason() -> None:
    out = await told(await opened(), stream(pause(3.0), [100]))
    assert len(out) > 8
    assert {(o.absent, o.reason, o.emotions, o.end_ms - o.start_ms) for o in out} == {(True, "no_speech", None, 250)}


@pytest.mark.parametrize("lengths_ms", [[10], [20], [37, 113, 64], [250], [1000], [7000]])
async def test_how_the_sound_is_cut_changes_nothing_but_who_brought_it(lengths_ms: list[int]) -> None:
    def facts(observations: list[Observation]) -> list[Any]:
        return [(identity(o), o.emotions, o.confidence, o.quality, o.absent) for o in observations]

    expected = facts(await told(await opened(), stream(SPEECH, [100])))
    assert facts(await told(await opened(), stream(SPEECH, lengths_ms), batch=5)) == expected


async def test_a_reread_from_needs_from_repeats_what_was_still_to_come() -> None:
    long = np.concatenate([SPEECH, pause(5.0), read_pcm("happiness"), pause(5.0), read_pcm("neutral"), pause(1.0)])
    records = stream(long, [100])
    first, whole, stops = await opened(), [], set[int]()
    for at in range(0, len(records), 10):
        whole += await told(first, records[at : at + 10])
        held = first.needs_from("s1")
        assert held is not None
        if held.offset not in stops:
            stops.add(held.offset)
            again = await told(await opened(), records[held.offset :])
            heard = await told(first, []) + whole
            from_ms = again[0].end_ms
            rest = [(identity(o), o.emotions) for o in again if o.end_ms <= heard[-1].end_ms]
            assert rest == [(identity(o), o.emotions) for o in heard if o.end_ms >= from_ms]
    assert len(stops) > 2


async def test_needs_from_moves_on_in_silence_and_is_none_without_sound() -> None:
    operator = await opened()
    assert operator.needs_from("s1") is None
    records = stream(pause(30.0), [100])
    await told(operator, records)
    held = operator.needs_from("s1")
    assert held is not None
    assert held.offset > len(records) - 60
    operator.forget("s1")
    assert operator.needs_from("s1") is None


async def test_a_source_that_stopped_holds_back_no_commit() -> None:
    operator = await opened(granted(), granted("s2"))
    await told(operator, stream(SPEECH, [100]))
    assert operator.needs_from("s1") is not None
    later = chunk(pause(0.1), START_MS + 60_000, 900, session_id="s2")
    elsewhere = replace(later, origin=Origin("audio_chunks", 1, 900))
    await operator.process([elsewhere])
    assert operator.needs_from("s1") is not None  # another partition may be far ahead
    operator.forget("s2")
    await operator.process([later])
    assert operator.needs_from("s1") is None
    assert operator.needs_from("s2") == later.origin


async def test_repeats_and_stragglers_change_nothing() -> None:
    records = stream(SPEECH, [100])
    expected = await told(await opened(), records)
    operator = await opened()
    noisy = [r for i, one in enumerate(records) for r in ([one, one, records[i - 5]] if i % 7 == 6 else [one])]
    assert [identity(o) for o in await told(operator, noisy)] == [identity(o) for o in expected]


async def test_of_an_overlap_only_the_new_part_is_heard() -> None:
    expected = [identity(o) for o in await told(await opened(), stream(SPEECH, [100]))]
    overlapping = [chunk(SPEECH[i * 1600 : i * 1600 + 4800], START_MS + i * 100, i) for i in range(len(SPEECH) // 1600)]
    found = [identity(o) for o in await told(await opened(), overlapping)]
    assert found[: len(expected)] == expected


def in_bursts(records: Sequence[Record[AudioChunk]], of: int, spread_ms: int = 0) -> list[Record[AudioChunk]]:
    """Chunks as a client sends them that collects some, then stamps them all with the moment of the first."""
    stamped = []
    for i, record in enumerate(records):
        payload = record.payload
        at_ms = records[i - i % of].event_time_ms + i % of * spread_ms
        changed = msgspec.structs.replace(payload, event_time_ms=at_ms, seq=i)
        stamped.append(replace(record, event_time_ms=at_ms, payload=changed))
    return stamped


@pytest.mark.parametrize(("of", "spread_ms"), [(5, 0), (20, 0), (20, 2)])
async def test_chunks_that_share_the_stamp_of_a_burst_are_told_apart_by_seq_and_length(of: int, spread_ms: int) -> None:
    records = stream(SPEECH, [50])
    expected = await told(await opened(), records)
    out = await told(await opened(), in_bursts(records, of, spread_ms))
    assert [(identity(o), o.emotions) for o in out] == [(identity(o), o.emotions) for o in expected]


async def test_repeats_in_a_burst_change_nothing() -> None:
    burst = in_bursts(stream(SPEECH, [50]), 10)
    expected = await told(await opened(), burst)
    operator = await opened()
    noisy = [r for i, one in enumerate(burst) for r in ([one, one] if i % 7 == 6 else [one])]
    assert [identity(o) for o in await told(operator, noisy)] == [identity(o) for o in expected]


async def test_a_clock_that_stands_still_is_no_burst_and_holds_nothing_back() -> None:
    still = in_bursts(stream(np.tile(SPEECH, 8), [50]), 10**6)
    operator = await opened()
    ends = [o.end_ms for o in await told(operator, still)]
    assert max(ends) <= START_MS + 11_000


async def test_windows_that_overlap_are_no_burst_whatever_their_seq() -> None:
    expected = [identity(o) for o in await told(await opened(), stream(SPEECH, [100]))]
    overlapping = [
        chunk(SPEECH[i * 160 : i * 160 + 4800], START_MS + i * 10, i, seq=i) for i in range(len(SPEECH) // 160)
    ]
    found = [identity(o) for o in await told(await opened(), overlapping)]
    assert found[: len(expected)] == expected


async def test_after_a_gap_hearing_starts_anew_and_no_piece_spans_it() -> None:
    records = stream(SPEECH, [100])
    gap = [r for r in records if not START_MS + 2000 <= r.event_time_ms < START_MS + 2600]
    out = await told(await opened(), gap)
    assert not [o for o in out if o.start_ms < START_MS + 2000 < o.end_ms]
    assert not [o for o in out if START_MS + 2000 < o.end_ms <= START_MS + 2600]
    assert [o for o in out if o.end_ms > START_MS + 3600 and not o.absent]


async def test_stamps_that_jitter_by_a_few_milliseconds_make_no_gap() -> None:
    jitter = np.random.default_rng(1)
    records = [
        chunk(np.frombuffer(r.payload.data, np.int16), r.event_time_ms + int(jitter.integers(-15, 16)), i)
        for i, r in enumerate(stream(SPEECH, [40]))
    ]
    ends = [o.end_ms for o in await told(await opened(), records)]
    assert np.diff(ends).tolist() == [250] * (len(ends) - 1)


@pytest.mark.parametrize(
    ("changes", "told_what"),
    [
        ({"sample_rate_hz": 44100}, "sample_rate_hz is 44100"),
        ({"channels": 2}, "channels is 2"),
        ({"format": "opus"}, "format must be pcm_s16le"),
        ({"data": b"\0\0\0"}, "3 bytes"),
        ({"data": b""}, "0 bytes"),
        ({"data": bytes(2 * 16 * 10_001)}, "at most 10000 ms"),
    ],
)
async def test_a_chunk_that_cannot_be_heard_is_refused_and_the_others_are_not(
    changes: dict[str, Any], told_what: str
) -> None:
    good = stream(SPEECH, [100])
    bad = chunk(pause(0.1), START_MS + 3000, 999, **changes)
    expected = await told(await opened(), good)
    out = await told(await opened(), [*good[:30], bad, *good[30:]], batch=64)
    refused = [p for p in out if isinstance(p, Refusal)]
    assert [r.reason for r in refused] == ["undecodable"]
    assert told_what in refused[0].detail
    assert [identity(p) for p in out if isinstance(p, Observation)] == [identity(o) for o in expected]


@pytest.mark.parametrize(
    ("consent", "reason"),
    [
        (granted(modalities=["face", "text"]), "no_consent"),
        (granted(minor=None), "age_not_said"),
        (granted(minor=True), "minor"),
    ],
)
async def test_without_consent_nothing_is_kept_and_absence_keeps_the_cadence(consent: Consent, reason: str) -> None:
    operator = await opened(consent)
    out = await told(operator, stream(SPEECH, [130]))
    assert operator.needs_from("s1") is None
    assert {(o.absent, o.reason, o.emotions) for o in out} == {(True, reason, None)}
    assert [o.end_ms for o in out] == list(range(START_MS + 250, START_MS + len(SPEECH) // 16 + 1, 250))


async def test_nothing_leaves_before_a_disclosure() -> None:
    assert await told(await opened(granted(disclosed_at_ms=None)), stream(SPEECH, [100])) == []
    assert await told(await opened(granted("somebody else")), stream(SPEECH, [100])) == []


async def test_the_deployers_switch_stops_the_voice() -> None:
    off = Control(event_time_ms=START_MS, app="affect", sensing_off=True)
    out = await told(await opened(granted(), controls=[off]), stream(SPEECH, [100]))
    assert {o.reason for o in out} == {"switched_off"}


async def test_a_withdrawal_drops_the_sound_and_is_told_at_once() -> None:
    operator = await opened()
    await told(operator, stream(SPEECH, [100])[:30])
    assert operator.needs_from("s1") is not None
    withdrawn = Record("s1", START_MS + 3000, START_MS + 3010, granted(modalities=[]), Origin("consents", 0, 1))
    out = operator.on_table("consents", withdrawn)
    assert [(r.payload.absent, r.payload.reason) for r in out] == [(True, "no_consent")]
    assert operator.needs_from("s1") is None


async def test_expressions_only_says_how_it_sounds_and_nothing_of_emotion() -> None:
    out = await told(await opened(granted(expressions_only=True)), stream(SPEECH, [100]))
    assert {o.mode for o in out} == {"expressions_only"}
    assert all(o.emotions is None and o.embedding is None and o.valence is None and o.model == "" for o in out)
    speaking = [o.expressions for o in out if not o.absent]
    assert all(set(e) == {"speaking", "loudness", "pitch", "rate"} for e in speaking)
    assert all(80 < e["pitch"] < 500 for e in speaking)
    assert {o.expressions["speaking"] for o in out if o.absent} == {0.0}


async def test_embeddings_leave_only_where_the_deployer_allows_them() -> None:
    out = await told(await opened(embeddings=True), stream(SPEECH, [100]))
    assert {len(o.embedding) for o in out if not o.absent} == {2 * 128}
    assert {o.embedding for o in out if o.absent} == {None}


async def test_sessions_and_sources_in_one_batch_do_not_mix() -> None:
    alone = {name: await told(await opened(), stream(read_pcm(name), [100])) for name in ("anger", "sadness")}
    operator = await opened(granted("a"), granted("b"))
    a = stream(read_pcm("anger"), [100], session_id="a")
    b = stream(read_pcm("sadness"), [100], session_id="b", source_id="other")
    both = await told(operator, [r for pair in zip(a, b, strict=False) for r in pair], batch=16)
    for session, name in (("a", "anger"), ("b", "sadness")):
        found = [(o.start_ms, o.emotions) for o in both if o.session_id == session]
        assert found == [(o.start_ms, o.emotions) for o in alone[name]][: len(found)]
        assert found


async def test_a_failed_encoder_call_can_be_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    operator, records = await opened(), stream(SPEECH, [100])

    def fails(*_: object) -> None:
        raise OSError("once")

    with monkeypatch.context() as patched:
        patched.setattr(operator, "_infer", fails)
        with pytest.raises(OSError, match="once"):
            await operator.process(records[:40])
    expected = await told(await opened(), records[:40], batch=40)
    assert [identity(o) for o in await told(operator, records[:40], batch=40)] == [identity(o) for o in expected]


async def test_it_refuses_to_open_without_a_declared_use() -> None:
    with pytest.raises(RefusedUseError, match="STREAMER_CONTEXT"):
        await SenseVoice(Params(), Context("sense_voice", load_settings(context=None))).open()


def test_poor_sound_lowers_confidence_and_never_below_chance() -> None:
    good = {"speech_s": 3.0, "range_db": 40.0, "clipped": 0.0}
    best = confidence(0.9, 4, good)
    assert 0.88 < best <= 0.9
    for worse in ({"speech_s": 0.6}, {"speech_s": 1.2, "range_db": 6.0}, {"clipped": 0.3}):
        assert 0.25 <= confidence(0.9, 4, {**good, **worse}) < best


@pytest.mark.parametrize(
    "wrong", [{"hop": Duration(50)}, {"aggressiveness": 4}, {"shortest": Duration(4000)}, {"longest": Duration(5000)}]
)
def test_params_that_make_no_sense_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="must"):
        Params(**wrong)
