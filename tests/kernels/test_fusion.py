"""Fusion: what DESIGN §4 promises of it, as properties over any evidence and as small cases with known answers."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import permutations
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernels import fusion
from kernels.emotions import EMOTIONS, SEVEN
from kernels.fusion import Expert, Fused, WeightedOutput, expert, fuse
from kernels.intents import INTENTS
from operators.fuse_affect import FuseAffect, Params
from operators.payloads import AffectEvent, Observation
from streamer.event_time import ManualClock
from streamer.operator import Context, Piece, Window
from streamer.payloads import encode
from streamer.settings import load_settings
from tests.shipped import MODALITIES

UNIFORM = dict.fromkeys(EMOTIONS, 1 / len(EMOTIONS))
CLASSES: dict[str, tuple[str, ...]] = {
    "face": SEVEN,
    "voice": ("happiness", "sadness", "anger", "neutral"),
    "text": EMOTIONS,
}


def shares(values: Sequence[float], names: Sequence[str]) -> dict[str, float]:
    total = sum(values)
    return {n: v / total for n, v in zip(names, values, strict=True)}


@st.composite
def distributions(draw: st.DrawFn, names: Sequence[str]) -> dict[str, float]:
    return shares(draw(st.lists(st.floats(0.001, 1), min_size=len(names), max_size=len(names))), names)


@st.composite
def weighted_outputs(draw: st.DrawFn, names: Sequence[str]) -> WeightedOutput:
    return WeightedOutput(
        emotions=draw(distributions(names)),
        prior=draw(distributions(names)),
        weight=draw(st.floats(0.01, 1)),
        confidence=draw(st.floats(0.05, 1)),
    )


@st.composite
def panels(draw: st.DrawFn) -> dict[str, Expert]:
    """One to three modalities, each with some evidence."""
    chosen = draw(st.lists(st.sampled_from(list(CLASSES)), min_size=1, max_size=3, unique=True))
    found = {m: expert(draw(st.lists(weighted_outputs(CLASSES[m]), min_size=1, max_size=4)), 0.8) for m in chosen}
    return {m: e for m, e in found.items() if e is not None}


def fuse_all(experts: Mapping[str, Expert], prior: Mapping[str, float] = UNIFORM) -> Fused:
    found = fuse(experts, prior)
    assert found is not None
    return found


def one(
    emotions: Mapping[str, float], weight: float = 1.0, confidence: float = 0.8, reliability: float = 1.0
) -> Expert:
    prior = dict.fromkeys(emotions, 1 / len(emotions))
    found = expert([WeightedOutput(emotions, prior, weight, confidence)], reliability)
    assert found is not None
    return found


def leaning(name: str, p: float = 0.7, names: Sequence[str] = SEVEN) -> dict[str, float]:
    return {n: p if n == name else (1 - p) / (len(names) - 1) for n in names}


@given(panels())
def test_an_estimate_sums_to_one_over_the_classes_somebody_present_supports(experts: dict[str, Expert]) -> None:
    fused = fuse_all(experts)
    assert math.isclose(sum(fused.emotions.values()), 1.0)
    assert math.isclose(sum(fused.weights.values()), 1.0)
    able = [n for n in EMOTIONS if any(n in e.supports for e in experts.values())]
    assert list(fused.emotions) == list(fused.supported) == able
    assert fused.supported == {n: [m for m, e in experts.items() if n in e.supports] for n in able}


@given(panels(), st.randoms())
def test_the_order_of_modalities_changes_nothing(experts: dict[str, Expert], random: Any) -> None:
    names = list(experts)
    random.shuffle(names)
    ours, theirs = fuse_all(experts), fuse_all({m: experts[m] for m in names})
    assert ours.emotions == pytest.approx(theirs.emotions, abs=1e-12)
    assert ours.conflict == pytest.approx(theirs.conflict, abs=1e-12)


@given(st.lists(weighted_outputs(SEVEN), min_size=2, max_size=5), st.randoms())
def test_the_order_of_outputs_changes_nothing(given_: list[WeightedOutput], random: Any) -> None:
    shuffled = list(given_)
    random.shuffle(shuffled)
    ours, theirs = expert(given_, 1.0), expert(shuffled, 1.0)
    assert ours is not None
    assert theirs is not None
    assert fuse_all({"face": ours}).emotions == pytest.approx(fuse_all({"face": theirs}).emotions, abs=1e-12)


@given(panels(), distributions(SEVEN))
def test_a_model_that_only_repeats_its_prior_moves_nothing(experts: dict[str, Expert], prior: dict[str, float]) -> None:
    experts.pop("face", None)
    nothing_new = expert([WeightedOutput(prior, prior, 1.0, 0.9)], 1.0)
    assert nothing_new is not None
    if experts:
        before, after = fuse_all(experts), fuse_all({**experts, "face": nothing_new})
        shared = before.emotions.keys()
        rest = sum(after.emotions[n] for n in shared)
        assert {n: after.emotions[n] / rest for n in shared} == pytest.approx(before.emotions)
    else:
        assert fuse_all({"face": nothing_new}).emotions == pytest.approx(shares([1] * 7, SEVEN))


@given(panels())
def test_a_modality_without_evidence_is_masked(experts: dict[str, Expert]) -> None:
    silent = expert([WeightedOutput(leaning("fear"), leaning("anger"), 0.0, 0.9)], 1.0)
    assert silent is None
    fused = fuse_all(experts)
    assert set(fused.weights) == set(experts)
    assert all(w > 0 for w in fused.weights.values())


def test_nobody_present_gives_no_estimate() -> None:
    assert fuse({}, UNIFORM) is None
    assert expert([], 1.0) is None
    shut = expert([WeightedOutput(leaning("fear"), leaning("fear"), 1.0, 0.9)], 0.0)
    assert shut is None or fuse({"face": shut}, UNIFORM) is None


@given(st.sampled_from(SEVEN), st.floats(0.3, 0.9))
def test_agreeing_modalities_are_surer_than_each_alone(name: str, p: float) -> None:
    face, text = one(leaning(name, p)), one(leaning(name, p, EMOTIONS))
    both = fuse_all({"face": face, "text": text})
    assert both.emotions[name] > max(fuse_all({"face": face}).emotions[name], fuse_all({"text": text}).emotions[name])
    assert both.conflict < 0.1  # they spread what is left over seven and nine classes


@given(panels())
def test_conflict_is_a_share_and_zero_for_one_modality(experts: dict[str, Expert]) -> None:
    assert 0 <= fuse_all(experts).conflict <= 1
    first = next(iter(experts))
    assert fuse_all({first: experts[first]}).conflict == 0


def test_contradiction_shows_as_conflict() -> None:
    angry = one(leaning("anger", 0.95))
    happy, angry_words = one(leaning("happiness", 0.95, EMOTIONS)), one(leaning("anger", 0.95, EMOTIONS))
    assert fuse_all({"face": angry, "text": happy}).conflict > 0.5
    assert fuse_all({"face": angry, "text": angry_words}).conflict < 0.05


@given(distributions(SEVEN), distributions(SEVEN))
def test_classes_a_model_does_not_know_keep_their_proportions(p: dict[str, float], prior: dict[str, float]) -> None:
    words = one(leaning("trust", 0.5, EMOTIONS))
    face = expert([WeightedOutput(p, prior, 1.0, 0.8)], 1.0)
    assert face is not None
    without, with_face = fuse_all({"text": words}).emotions, fuse_all({"text": words, "face": face}).emotions
    ratio = without["trust"] / without["anticipation"]
    assert with_face["trust"] / with_face["anticipation"] == pytest.approx(ratio)


def test_a_class_nobody_present_supports_is_not_listed() -> None:
    fused = fuse_all({"voice": one(leaning("anger", 0.6, CLASSES["voice"]))})
    assert set(fused.emotions) == {"happiness", "sadness", "anger", "neutral"}
    assert "fear" not in fused.supported


def test_the_training_prior_is_divided_out_and_the_deployments_put_in() -> None:
    common = shares([50, 10, 10, 10, 10, 5, 5], SEVEN)
    usual = expert([WeightedOutput(common, common, 1.0, 0.5)], 1.0)
    assert usual is not None
    assert fuse_all({"face": usual}).emotions == pytest.approx(shares([1] * 7, SEVEN))
    deployed = {**UNIFORM, "fear": 0.5}
    assert fuse_all({"face": usual}, deployed).emotions["fear"] > 0.4


@given(st.floats(0.1, 0.9))
def test_what_has_faded_moves_the_estimate_less(weight: float) -> None:
    fresh, decayed = fuse_all({"face": one(leaning("fear"))}), fuse_all({"face": one(leaning("fear"), weight=weight)})
    assert decayed.emotions["fear"] < fresh.emotions["fear"]


def test_ten_equal_outputs_count_as_one() -> None:
    output = WeightedOutput(leaning("fear"), shares([1] * 7, SEVEN), 1.0, 0.8)
    once, often = expert([output], 1.0), expert([output] * 10, 1.0)
    assert once is not None
    assert often is not None
    assert fuse_all({"face": once}).emotions == pytest.approx(fuse_all({"face": often}).emotions)


def test_a_modality_known_to_be_unreliable_weighs_less() -> None:
    face, voice = one(leaning("fear")), one(leaning("anger", 0.7, CLASSES["voice"]), reliability=0.3)
    fused = fuse_all({"face": face, "voice": voice})
    assert fused.weights["face"] > 2 * fused.weights["voice"]


def test_one_that_contradicts_two_is_outvoted_and_carries_little() -> None:
    sad_voice = one(leaning("sadness", 0.8, CLASSES["voice"]), reliability=0.8)
    sad_words = one(leaning("sadness", 0.8, EMOTIONS), reliability=0.9)
    smile = leaning("happiness", 0.999)
    trusted, gated = one(smile, confidence=1.0), one(smile, confidence=1.0, reliability=0.9)
    rest = {"voice": sad_voice, "text": sad_words}
    assert max(fuse_all({**rest, "face": trusted}).emotions.items(), key=lambda kv: kv[1])[0] == "happiness"  # a veto
    fused = fuse_all({**rest, "face": gated})
    assert max(fused.emotions.items(), key=lambda kv: kv[1])[0] == "sadness"
    assert fused.weights["face"] < 0.2
    assert fused.conflict > 0.3


@given(panels())
def test_no_modality_moves_odds_further_than_its_gate_lets_it(experts: dict[str, Expert]) -> None:
    for name, e in experts.items():
        moved = (1 - e.gate) + e.gate * e.likelihood
        assert moved.min() >= 1 - e.gate
        assert moved.max() <= (1 - e.gate) + e.gate * len(e.supports)
        assert sum(e.likelihood[EMOTIONS.index(n)] for n in e.supports) == pytest.approx(len(e.supports)), name


@given(st.floats(0.05, 1))
def test_poor_quality_shuts_the_gate_by_so_much(trust: float) -> None:
    good, poor = one(leaning("fear", 0.8), confidence=0.8), one(leaning("fear", 0.8), confidence=0.8 * trust)
    assert poor.gate == pytest.approx(good.gate * trust)
    assert poor.likelihood == pytest.approx(good.likelihood)
    assert one(leaning("fear", 0.8), confidence=1.0).gate == good.gate  # surer than its own answer says nothing


def test_a_sharper_modality_says_more_by_the_same_evidence() -> None:
    output = WeightedOutput(leaning("fear"), shares([1] * 7, SEVEN), 1.0, 0.7)
    plain, sharp = expert([output], 0.9), expert([output], 0.9, 2.0)
    assert plain is not None
    assert sharp is not None
    assert fuse_all({"face": sharp}).emotions["fear"] > fuse_all({"face": plain}).emotions["fear"]


def test_measured_valence_is_averaged_and_derived_adds_no_evidence() -> None:
    output = WeightedOutput(leaning("fear"), shares([1] * 7, SEVEN), 1.0, 0.8)
    measured = expert([with_vad(output, vad=(-0.5, 0.5, 0.0))], 1.0)
    assert measured is not None
    assert fuse_all({"text": measured}).vad == pytest.approx((-0.5, 0.5, 0.0))
    assert fuse_all({"text": measured}).vad_measured
    plain = one(leaning("fear"))
    assert not fuse_all({"face": plain}).vad_measured
    assert fuse_all({"face": plain}).emotions == pytest.approx(fuse_all({"text": measured}).emotions)


def with_vad(output: WeightedOutput, vad: tuple[float, float, float]) -> WeightedOutput:
    return WeightedOutput(output.emotions, output.prior, output.weight, output.confidence, vad)


def test_two_strong_emotions_are_a_compound_and_neutral_is_no_part_of_one() -> None:
    ((first, second, p),) = fusion.compounds({"fear": 0.4, "surprise": 0.35, "neutral": 0.25})
    assert (first, second) == ("fear", "surprise")
    assert p == pytest.approx(0.75)
    assert fusion.compounds({"fear": 0.5, "neutral": 0.5}) == []


def an_observation(modality: str, emotions: Mapping[str, float] | None = None, **fields: Any) -> Observation:
    given = {
        "session_id": "s", "event_time_ms": 1900, "modality": modality, "source_id": "x", "start_ms": 1800,
        "end_ms": 1900, "emotions": emotions, "confidence": max(emotions.values()) if emotions else 0.0,
        "source_kafka_ms": 1910, "model": f"{modality}_affect@1", **fields,
    }  # fmt: skip
    return Observation(**given)


def a_window(*observations: Observation, weight: float = 0.9) -> Window:
    pieces = tuple(Piece(o, weight, inside=True, offset=n) for n, o in enumerate(observations))
    newest = {str(o.modality): o.end_ms for o in observations}
    return Window("s", 0, 2000, True, 2150, 0, pieces, newest, frozenset(newest), 1910, 7)


def fuser(params: Params) -> FuseAffect:
    return FuseAffect(params, Context("fuse_affect", load_settings(), ManualClock(2200), modalities=MODALITIES))


async def an_event(*observations: Observation, weight: float = 0.9, **params: Any) -> AffectEvent:
    operator = fuser(Params(**params))
    await operator.open()
    try:
        return (await operator.fuse([a_window(*observations, weight=weight)]))[0]
    finally:
        await operator.close()


async def test_an_event_says_who_spoke_how_much_it_weighs_and_sums_to_one() -> None:
    face = an_observation("face", leaning("fear"))
    event = await an_event(face, an_observation("text", leaning("fear", 0.6, EMOTIONS)))
    assert not event.abstained
    assert event.emotions is not None
    assert sum(event.emotions.values()) == pytest.approx(1, abs=1e-5)
    assert max(event.emotions, key=lambda n: event.emotions[n]) == "fear"  # type: ignore[index]
    assert event.modalities["face"].state == event.modalities["text"].state == "present"
    assert sum(m.weight for m in event.modalities.values()) == pytest.approx(1, abs=1e-5)
    assert event.supported["trust"] == ["text"]
    assert event.vad_source == "derived"


async def test_without_weighing_evidence_an_event_abstains_and_says_nothing() -> None:
    absent = await an_event(an_observation("face", absent=True, reason="no_face"))
    decayed = await an_event(an_observation("face", leaning("fear")), weight=0.0)
    for event in (absent, decayed):
        assert event.abstained
        assert event.emotions is None
        assert event.valence is None
        assert event.vad_source == "none"
        assert event.confidence == 0
    assert absent.modalities["face"].state == "absent"


async def test_a_modality_without_consent_is_distinguished_from_an_absent_one() -> None:
    event = await an_event(an_observation("voice", absent=True, reason="no_consent"))
    assert event.modalities["voice"].state == "no_consent"


async def test_an_event_is_the_same_alone_and_in_a_batch_but_for_when_it_was_sent() -> None:
    operator = fuser(Params())
    await operator.open()
    windows = [a_window(an_observation("face", leaning(n))) for n in SEVEN]
    together = await operator.fuse(windows)
    alone = [(await operator.fuse([w]))[0] for w in reversed(windows)]
    assert [msgspec.msgpack.encode(e) for e in together] == [msgspec.msgpack.encode(e) for e in reversed(alone)]


async def test_expressions_only_gives_expressions_and_no_emotion() -> None:
    smiling = an_observation("face", mode="expressions_only", expressions={"smiling": 1.0})
    event = await an_event(smiling)
    assert event.expressions == {"smiling": 1.0}
    assert event.abstained
    assert event.emotions is None


async def test_intents_of_messages_are_averaged_as_heavy_as_their_evidence() -> None:
    leave = an_observation("text", leaning("fear", 0.6, EMOTIONS), intents={"leave": 0.9, "none": 0.1})
    silent = an_observation("text", leaning("fear", 0.6, EMOTIONS), source_id="z", start_ms=1700)
    rest = an_observation("text", leaning("fear", 0.6, EMOTIONS), source_id="y", intents={"none": 1.0})
    window = a_window(leave, rest, silent, an_observation("face", leaning("fear")))
    pieces = tuple(replace(p, weight=w) for p, w in zip(window.pieces, (0.3, 0.1, 0.8, 0.9), strict=True))
    operator = fuser(Params())
    await operator.open()
    (event,) = await operator.fuse([replace(window, pieces=pieces)])
    assert event.intents == dict.fromkeys(INTENTS, 0.0) | {"leave": 0.675, "none": 0.325}


async def test_intents_outlive_a_withheld_estimate_but_not_their_evidence() -> None:
    stated = an_observation("text", leaning("fear", 0.2, EMOTIONS), intents={"leave": 1.0})
    withheld, decayed = await an_event(stated, abstain_below=1.0), await an_event(stated, weight=0.0)
    assert withheld.abstained
    assert withheld.intents == dict.fromkeys(INTENTS, 0.0) | {"leave": 1.0}
    assert decayed.intents is None
    assert (await an_event(an_observation("face", leaning("fear")))).intents is None


def test_a_prior_over_something_that_is_no_emotion_is_refused() -> None:
    with pytest.raises(ValueError, match="no emotion joy"):
        Params(prior={"joy": 0.2})


async def test_the_order_in_which_observations_came_changes_nothing_of_an_event() -> None:
    stated = [
        an_observation("face", leaning("fear", 0.31 + n / 9), start_ms=1500 + n, model=f"face_affect@{n}")
        for n in range(3)
    ]
    for n in range(2):
        loud = {"loudness": -20.0 - n}
        stated.append(an_observation("voice", start_ms=1700 + n, mode="expressions_only", expressions=loud))
    events = [await an_event(*order) for order in permutations(stated)]
    assert {encode(e) for e in events} == {encode(events[0])}
    assert (events[0].models["face"], events[0].expressions) == ("face_affect@2", {"loudness": -21.0})


def test_outputs_without_an_emotion_are_no_expert() -> None:
    assert expert([WeightedOutput({"leave": 0.9, "none": 0.1}, {}, 1.0, 0.9, None)], 1.0) is None
