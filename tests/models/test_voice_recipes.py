"""The voice recipes: folds, items that must not be judged, licences, the quality gate, and that they run.

The last part trains on noise and needs the extra `train`: `pip install -e '.[dev,train]' && python -m pytest -m train`.
"""

import csv
from pathlib import Path

import av
import numpy as np
import pytest

from kernels import engines
from kernels.calibration import softmax
from kernels.voice.log_mel import RATE_HZ
from models.voice_affect import evaluate
from models.voice_affect.recipe import gate
from models.voice_affect.recipe.corpus import DEMO_SPEAKER, LABELS, Utterance, emodb
from models.voice_affect.recipe.folds import (
    TrainedItemError,
    cross_fitted,
    mean_logits,
    read_folds,
    speakers_by_item,
    write_folds,
)
from models.voice_affect_nc.evaluate import predict
from models.voice_affect_nc.recipe import corpus as nc

MODEL_FOLDERS = [evaluate.FOLDER, nc.FOLDER]


def utterance(item: str, speaker: str, label: int = 0) -> Utterance:
    return Utterance(Path(f"{item}.wav"), item, speaker, "f", label)


def test_every_actor_is_judged_in_exactly_one_fold() -> None:
    assert sorted(actor for fold in nc.FOLDS for actor in fold) == list(range(1, 25))
    assert nc.folds_of([utterance("a", "16"), utterance("b", "22")]).tolist() == [0, 4]
    assert set(nc.TRAINED_ON) < set(nc.DEVELOPMENT_ACTORS) < {actor for fold in nc.FOLDS for actor in fold}


@pytest.mark.parametrize("folder", MODEL_FOLDERS, ids=lambda folder: folder.name)
def test_each_item_is_predicted_once_a_seed_by_networks_without_its_speaker(folder: Path) -> None:
    with (folder / "folds.csv").open(encoding="utf-8", newline="") as handle:
        rows = list(csv.DictReader(handle))
    labels = LABELS if folder.name == "voice_affect" else nc.CLASSES
    items, seeds = {row["item"] for row in rows}, {row["seed"] for row in rows}
    assert list(rows[0]) == ["item", "speaker", "seed", *labels]
    assert len(seeds) == 3
    assert len(rows) == 3 * (339 if folder.name == "voice_affect" else 1440)
    assert len({(row["item"], row["speaker"], row["seed"]) for row in rows}) == len(items) * len(seeds)
    assert len(items) == (339 if folder.name == "voice_affect" else 1439)  # one recording of RAVDESS is there twice
    p = np.array([[float(row[name]) for name in labels] for row in rows])
    np.testing.assert_allclose(p.sum(axis=1), 1.0, atol=1e-3)


def test_out_of_fold_predictions_are_read_as_they_were_written(tmp_path: Path) -> None:
    utterances = [utterance("a", "3"), utterance("b", "4")]
    logits = {k: np.random.default_rng(k).normal(0, 2, (2, 4)) for k in (0, 1)}
    write_folds(tmp_path / "folds.csv", utterances, LABELS, logits)
    again = read_folds(tmp_path / "folds.csv", utterances[::-1], LABELS)
    for k, written in logits.items():
        apart = written[::-1] - again[k]
        np.testing.assert_allclose(apart - apart[:, :1], 0.0, atol=0.01)
    assert speakers_by_item(tmp_path / "folds.csv") == {"a": "3", "b": "4"}
    for wrong in (utterance("unknown", "3"), utterance("a", "4")):
        with pytest.raises(ValueError, match="no row by a model without them"):
            read_folds(tmp_path / "folds.csv", [wrong], LABELS)


def test_a_folds_predictions_do_not_change_its_temperature() -> None:
    truth, folds = np.arange(80) % 4, np.array(["a", "b"]).repeat(40)
    logits = np.eye(4)[truth] * 3 + np.random.default_rng(0).normal(0, 1, (80, 4))
    spoilt = logits.copy()
    spoilt[:40] = -spoilt[:40]
    before, after = cross_fitted(logits, truth, folds), cross_fitted(spoilt, truth, folds)
    np.testing.assert_allclose(before[:40].max(axis=1) > 0, True)
    assert not np.allclose(before[40:], after[40:])  # b's temperature comes from a
    np.testing.assert_allclose(np.log(before[:40, 0] / before[:40, 1]), -np.log(after[:40, 0] / after[:40, 1]))


def test_logits_are_averaged_over_seeds() -> None:
    np.testing.assert_array_equal(mean_logits({0: np.full((2, 4), 1.0), 7: np.full((2, 4), 3.0)}), np.full((2, 4), 2.0))


def test_judging_the_shipped_model_on_what_it_was_trained_on_is_an_error() -> None:
    speakers = speakers_by_item(evaluate.FOLDER / "folds.csv")
    trained = next(item for item, speaker in speakers.items() if speaker != DEMO_SPEAKER)
    with pytest.raises(TrainedItemError, match="1 items were in this model's training"):
        evaluate.predict(engines.load("voice_affect", threads=1), [utterance(trained, speakers[trained])])
    left_out = [item for item, speaker in speakers.items() if speaker == DEMO_SPEAKER]
    assert len(left_out) == 36


def test_judging_weights_of_ravdess_on_what_they_were_trained_on_is_an_error(tmp_path: Path) -> None:
    actors = speakers_by_item(nc.FOLDER / "folds.csv")
    for actor in ("1", "16"):
        trained = next(item for item, one in actors.items() if one == actor)
        with pytest.raises(TrainedItemError):
            predict([utterance(trained, actor)], tmp_path)
    german = next(iter(speakers_by_item(evaluate.FOLDER / "folds.csv")))
    with pytest.raises(TrainedItemError):
        predict([utterance(german, "emodb-03")], tmp_path)
    left_out = next(item for item, one in actors.items() if one == "17")
    with pytest.raises(engines.ModelFolderError):  # it got as far as the weights, which aren't here
        predict([utterance(left_out, "17")], tmp_path)


def test_the_non_commercial_model_has_no_weights_and_the_error_names_its_card() -> None:
    assert not list(nc.FOLDER.glob("*.onnx"))
    assert not (nc.FOLDER / "model.json").exists()
    with pytest.raises(engines.ModelFolderError, match=r"models/voice_affect_nc/card.md says how to make it"):
        engines.read_spec("voice_affect_nc")


def test_its_weights_run_only_where_their_licence_is_accepted() -> None:
    spec = engines.ModelSpec(
        name="voice_affect_nc",
        version="1",
        modality="voice",
        labels=list(nc.LABELS),
        licence="non_commercial",
        sha256="",
    )
    assert "STREAMER_ACCEPT_LICENCES=non_commercial" in (engines.licence_refusal(spec, "unsettled") or "")
    assert engines.licence_refusal(spec, "unsettled,non_commercial") is None


def test_every_class_counts_as_an_emotion_and_calm_as_neutral() -> None:
    assert nc.label_of_class()["calm"] == nc.label_of_class()["neutral"] == "neutral"
    assert set(nc.label_of_class().values()) == set(nc.LABELS)


def test_the_tables_of_trust_are_those_fitted_to_gate_csv() -> None:
    from kernels.voice import trust as speech_trust

    for name, table in gate.fit(gate.Predictions()).items():
        assert getattr(speech_trust, name) == table, "python -m models.voice_affect.recipe.gate prints it"


def test_the_predictions_of_gate_csv_are_means_over_all_seeds_as_in_the_shipped_model() -> None:
    # Most recordings are shorter than 3 s: that condition leaves them unchanged, as for folds.csv.
    with (evaluate.FOLDER / "folds.csv").open(encoding="utf-8", newline="") as handle:
        utterances = {row["item"]: utterance(row["item"], row["speaker"]) for row in csv.DictReader(handle)}.values()
    seeds = read_folds(evaluate.FOLDER / "folds.csv", list(utterances), LABELS)
    temperature = engines.load("voice_affect", threads=1).spec.temperature
    p = softmax(mean_logits(seeds), temperature)
    expected = {u.item[:8]: row.max() for u, row in zip(utterances, p, strict=True)}
    predictions = gate.Predictions()
    rows = np.flatnonzero(predictions.condition == "3 s")
    apart = [abs(predictions.top[row] - expected[predictions.item[row]]) for row in rows]
    assert np.median(apart) < 0.01


def test_the_card_has_the_table_of_gate_csv() -> None:
    assert gate.condition_table(gate.Predictions()) in (evaluate.FOLDER / "card.md").read_text(encoding="utf-8")


@pytest.fixture
def spoilt() -> list[Utterance]:
    """Two speakers, of each two angry recordings and a happy one."""
    return [utterance(f"{n:08x}-16 hex digits", "34"[n // 3], int(n % 3 == 2)) for n in range(6)]


def write_predictions(path: Path, utterances: list[Utterance]) -> None:
    """Write a gate.csv: the networks are right on anger only, the SVM on everything in 0.6 s and nothing in more."""
    with path.open("w", encoding="utf-8", newline="") as handle:
        rows = csv.writer(handle)
        rows.writerow(["item", "condition", "speech_s", "range_db", "clipped", "top", "right", "svm"])
        for way in reversed(gate.CONDITIONS):
            rows.writerows([u.item[:8], way, 1, 30, 0, 0.9, int(u.label == 0), int(way == "0.6 s")] for u in utterances)


def test_the_networks_and_the_rival_are_compared_by_recall_over_all_conditions_and_over_the_shortest(
    spoilt: list[Utterance], tmp_path: Path
) -> None:
    write_predictions(tmp_path / "gate.csv", spoilt)
    found = {figure.name: figure for figure in gate.rival_figures(spoilt, gate.Predictions(tmp_path / "gate.csv"))}
    assert found["uar_spoilt"].value == found["uar_shortest"].value == 0.5  # two of three predictions are right
    assert found["uar_svm_spoilt"].value == pytest.approx(1 / len(gate.CONDITIONS), abs=1e-4)
    assert found["uar_svm_shortest"].value == 1.0
    assert found["lead_spoilt"].value == pytest.approx(0.5 - 1 / len(gate.CONDITIONS), abs=1e-4)
    assert found["lead_shortest"].value == -0.5
    assert (found["lead_spoilt"].n, found["lead_shortest"].n) == (6 * len(gate.CONDITIONS), 6)


def test_a_lead_on_spoilt_speech_is_drawn_over_speakers(spoilt: list[Utterance], tmp_path: Path) -> None:
    write_predictions(tmp_path / "gate.csv", spoilt)
    predictions = gate.Predictions(tmp_path / "gate.csv")
    of_speaker_3 = np.isin(predictions.item, [u.item[:8] for u in spoilt if u.speaker == "3"])
    predictions.right, predictions.svm = of_speaker_3 * 1.0, predictions.svm * 0.0
    (ahead,) = (f for f in gate.rival_figures(spoilt, predictions) if f.name == "lead_spoilt")
    assert (ahead.value, ahead.interval) == (0.5, (0.0, 1.0))  # each quarter of the draws has one speaker alone


def test_predictions_of_other_recordings_or_of_one_twice_are_refused(spoilt: list[Utterance], tmp_path: Path) -> None:
    for wrong in (spoilt[1:], [*spoilt, utterance("another", "3")], [*spoilt[1:], spoilt[1]], [*spoilt, spoilt[0]]):
        write_predictions(tmp_path / "gate.csv", wrong)
        with pytest.raises(ValueError, match="listen again"):
            gate.rival_figures(spoilt, gate.Predictions(tmp_path / "gate.csv"))


def test_confidence_on_spoilt_speech_is_nearer_to_accuracy_with_the_tables_than_without() -> None:
    found = {figure.name: figure.value for figure in gate.gate_figures()}
    assert found["off_with_gate"] < 0.6 * found["off_with_no_gate"]


def test_speech_is_degraded_by_the_condition() -> None:
    samples = (0.1 * np.sin(np.arange(4 * RATE_HZ) / 9)).astype(np.float32)
    rng = np.random.default_rng(0)
    assert len(gate.degrade(samples, (0.6, None, 0.0), rng)) == 0.6 * RATE_HZ
    noisy = gate.degrade(samples, (3.0, 0.0, 0.0), rng) - samples[: 3 * RATE_HZ]
    assert np.square(noisy).mean() == pytest.approx(np.square(samples).mean(), rel=0.05)
    clipped = np.abs(gate.degrade(samples, (3.0, None, 0.2), rng)) >= 32700 / 32768
    assert clipped.mean() == pytest.approx(0.2, abs=0.02)


def write_recording(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pcm = np.random.default_rng(seed).normal(0, 3000, RATE_HZ).astype(np.int16)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("flac", rate=RATE_HZ)
        stream.layout = "mono"
        frame = av.AudioFrame.from_ndarray(pcm[None], "s16", "mono")
        frame.sample_rate = RATE_HZ
        container.mux([*stream.encode(frame), *stream.encode(None)])


@pytest.fixture
def tiny_data(tmp_path: Path) -> Path:
    """Seconds of noise where EmoDB and RAVDESS would lie: each class once for each speaker."""
    data = tmp_path / "data"
    german, english = ["file,speaker,gender,emotion"], ["file,actor,gender,emotion"]
    for n, (speaker, emotion) in enumerate((s, e) for s in ("03", DEMO_SPEAKER) for e in LABELS):
        german.append(f"{n}.flac,{speaker},m,{emotion}")
        write_recording(data / "emodb" / "orig_4class_wav16k" / f"{n}.flac", n)
    for n, (actor, emotion) in enumerate((a, e) for a in (1, 2, 3, 8, 10, 20) for e in nc.CLASSES):
        english.append(f"{n}.flac,{actor},f,{emotion}")
        write_recording(data / "ravdess" / "wav16k" / f"{n}.flac", 100 + n)
    for folder, lines in (("emodb", german), ("ravdess", english)):
        (data / folder / "index.csv").write_text("\n".join(lines) + "\n")
    return data


@pytest.mark.train
def test_the_svm_is_trained_on_stretches_as_long_as_the_networks_are() -> None:
    from models.voice_affect.recipe.baseline import stretch

    rng, features = np.random.default_rng(0), np.arange(400)[:, None] + np.zeros(67)
    cut = [stretch(features, rng)[:, 0] for _ in range(400)]
    assert all((np.diff(one) == 1).all() for one in cut)
    assert (min(map(len, cut)), max(map(len, cut))) == pytest.approx((70, 300), abs=5)
    assert (min(one[0] for one in cut), max(one[-1] for one in cut)) == pytest.approx((0, 399), abs=5)
    assert {len(stretch(features[:60], rng)) for _ in range(20)} == {60}


@pytest.mark.train
@pytest.mark.timeout(300)
@pytest.mark.filterwarnings("default")
def test_both_recipes_run_from_recordings_to_weights_that_load(tiny_data: Path, tmp_path: Path) -> None:
    from models.voice_affect import train as free
    from models.voice_affect_nc import train as non_commercial

    out, work = tmp_path / "out", tmp_path / "work"
    free.main(["--data", str(tiny_data), "--work", str(work / "a"), "--out", str(out / "voice_affect"), "--steps", "2"])
    non_commercial.main(["--data", str(tiny_data), "--work", str(work / "b"), "--out", str(out), "--steps", "2"])
    for name, classes in (("voice_affect", 4), ("voice_affect_nc", 8)):
        engine = engines.load(name, threads=1, models=out)
        inputs = {"features": np.zeros((1, 300, 67), np.float32), "mask": np.ones((1, 300), np.float32)}
        assert engine.infer(inputs)["logits"].shape == (1, classes)
        assert len(speakers_by_item(out / name / "folds.csv")) == (8 if classes == 4 else 48)
    gate.write_predictions(tiny_data, work / "a", out / "voice_affect")
    predictions, german = gate.Predictions(out / "voice_affect" / "recipe" / "gate.csv"), emodb(tiny_data)
    assert {f.n for f in gate.rival_figures(german, predictions)} == {8, 8 * len(gate.CONDITIONS)}
    assert predictions.svm[predictions.condition == "3 s"].mean() < 0.75  # noise: more only if trained on it
    names = sorted(path.name for path in (work / "a").glob("*.pt"))
    assert names == sorted(f"{kind}-seed-{s}.pt" for s in (0, 1, 2) for kind in ("without-03", "without-13", "shipped"))


def test_a_network_trained_again_is_compared_by_accuracy_not_by_its_predictions() -> None:
    truth, rows = np.array([0, 1, 2, 3, 0]), np.array([True, True, True, True, False])
    stored, again = np.eye(4)[[0, 1, 2, 0, 0]], np.eye(4)[[0, 1, 0, 3, 1]]
    figure = evaluate.retrained(again, stored, truth, rows, "without speaker 16", tolerance=0.1)
    assert (figure.value, figure.n) == (0.75, 4)
    assert figure.what.endswith("share right (in folds.csv .750)")
