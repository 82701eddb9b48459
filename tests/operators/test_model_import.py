"""Import of encoders: the folder of a sound one, the problems of a broken one, and the map of labels."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from kernels import engines, model_input
from kernels.calibration import softmax
from kernels.emotions import SEVEN
from operators.model_import import folder, source
from operators.model_import.folder import ImportedModel, ImportRequest, import_model
from operators.model_import.label_map import classes, parse_labels, read_label_map
from operators.model_import.labelled import Item, read_items
from streamer.__main__ import main
from streamer.errors import ConfigurationError
from tests.tiny_encoders import labelled

TINY = Path(__file__).parents[1] / "tiny_encoders"
FAMILIES = list(labelled.FOR)
Bring = Callable[..., ImportedModel]


@pytest.fixture
def bring(tmp_path: Path) -> Bring:
    """Imports a tiny encoder, or a broken one, to `tmp_path/models`."""

    def do(what: str, **changes: Any) -> ImportedModel:
        fields: dict[str, Any] = {
            "path": TINY / what, "name": "mine", "modality": labelled.FOR.get(what, "voice"),
            "out": tmp_path / "models", "threads": 1, **changes,
        }  # fmt: skip
        return import_model(ImportRequest(**fields))

    return do


@pytest.fixture
def broken(tmp_path: Path, bring: Bring) -> Callable[..., str]:
    """What an import of `broken/<fault>.onnx`, with the files that belong beside it, reports."""

    def do(fault: str, **changes: Any) -> str:
        folder = tmp_path / "given"
        folder.mkdir()
        shutil.copy(TINY / "broken" / f"{fault}.onnx", folder)
        shutil.copy(TINY / "wav2vec2" / "preprocessor_config.json", folder)
        shutil.copy(TINY / "wav2vec2" / "config.json", folder)
        with pytest.raises(ConfigurationError) as raised:
            bring("", **{"path": folder / f"{fault}.onnx", **changes})
        assert not (tmp_path / "models" / "mine").exists()
        return str(raised.value)

    return do


def weights_apart(name: str) -> bytes:
    """An ONNX with one tensor, whose values are in another file: protobuf's bytes, by onnx.proto."""

    def field(number: int, content: bytes) -> bytes:
        return bytes([number << 3 | 2, len(content)]) + content

    entry = field(1, b"location") + field(2, name.encode())
    tensor = field(8, b"K") + field(13, entry) + bytes([14 << 3, 1])
    return bytes([1 << 3, 8]) + field(7, field(2, b"g") + field(5, tensor))


def refusal(bring: Bring, *arguments: Any, **changes: Any) -> str:
    with pytest.raises(ConfigurationError) as raised:
        bring(*arguments, **changes)
    return str(raised.value)


@pytest.mark.parametrize("family", FAMILIES)
def test_an_encoder_becomes_a_folder_that_engines_load(family: str, bring: Bring, tmp_path: Path) -> None:
    done = bring(family, calibrate=labelled.items(family, tmp_path / "items"), licence="free")
    engine = engines.load("mine", threads=1, imported=tmp_path / "models")
    assert engine.spec.id == done.spec.id
    assert engine.spec.folder == done.folder == tmp_path / "models" / "mine"
    assert engine.spec.modality == labelled.FOR[family]
    assert engine.spec.classes.keys() == set(json.loads((TINY / family / "config.json").read_text())["label2id"])
    assert sum(engine.spec.prior.values()) == pytest.approx(1.0, abs=1e-5)
    assert done.spec in engines.all_specs(imported=tmp_path / "models") or done.spec.loaded_from == ""
    assert {"model.onnx", "model.json", "card.md"} <= {p.name for p in done.folder.iterdir()}
    assert (done.folder / "tokenizer.json").exists() == (family == "bert")
    assert [p.name for p in (tmp_path / "models").iterdir()] == ["mine"]


def test_the_card_states_what_is_known_and_what_is_not(bring: Bring, tmp_path: Path) -> None:
    done = bring("vit", calibrate=labelled.items("vit", tmp_path / "items"))
    card = (done.folder / "card.md").read_text()
    assert f"# {done.spec.id}, imported" in card
    assert "| contempt | (none: left out) |" in card
    assert "A colour picture of one face, 64 x 64" in card
    assert "What it was trained on" in card
    assert "so they flatter it" in card
    assert f"One temperature, {done.spec.temperature:.4f}" in card
    assert "STREAMER_ACCEPT_LICENCES=unsettled" in card
    assert all(f"- {warning}" in card for warning in done.warnings)


def test_calibration_lowers_the_loss_and_other_items_test_it(bring: Bring, tmp_path: Path) -> None:
    fitted = labelled.items("bert", tmp_path / "items")
    alone = bring("bert", calibrate=fitted)
    assert 0.25 <= alone.spec.temperature <= 8
    assert len(alone.figures) == 1
    assert any("the very items it was calibrated on" in w for w in alone.warnings)
    tested = bring("bert", name="judged", calibrate=fitted, test=labelled.items("bert", tmp_path / "others", seed=1))
    assert tested.spec.temperature == alone.spec.temperature
    assert len(tested.figures) == 2
    assert not any("the very items" in w for w in tested.warnings)
    card = (tested.folder / "card.md").read_text()
    table = [[cell.strip() for cell in line.split("|")] for line in card.splitlines() if line.startswith("| ")]
    nll = {cells[1]: float(cells[6]) for cells in table if cells[1].endswith(("before", "after"))}
    assert nll["fitted on, after"] <= nll["fitted on, before"]
    assert set(nll) == {"fitted on, before", "fitted on, after", "others, before", "others, after"}


def test_test_items_that_were_calibrated_on_are_found_by_their_content(bring: Bring, tmp_path: Path) -> None:
    fitted, tested = labelled.items("vit", tmp_path / "a"), labelled.items("vit", tmp_path / "b", seed=1)
    shutil.copy(fitted / "sad" / "3.png", tested / "happy" / "again.png")
    assert "--test: shares 1 items with --calibrate" in refusal(bring, "vit", calibrate=fitted, test=tested)


def test_without_labelled_items_a_warning_says_that_it_is_not_calibrated(bring: Bring) -> None:
    done = bring("wav2vec2")
    assert done.spec.temperature == 1.0
    assert any("not calibrated" in warning for warning in done.warnings)
    assert "Its confidence means nothing" in (done.folder / "card.md").read_text()


def test_two_imports_that_compute_differently_have_different_versions(bring: Bring) -> None:
    one, same, other = bring("vit", name="a"), bring("vit", name="b"), bring("vit", name="c", labels="angry=disgust")
    assert one.spec.sha256 == same.spec.sha256 == other.spec.sha256
    assert len({one.spec.version, other.spec.version}) == 2
    assert same.spec.id != one.spec.id


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("fixed_batch", "its batch axis is fixed; export it with dynamic_axes={'input_values': {0: 'batch'}}"),
        ("fixed_time", "its time axis is fixed"),
        ("five_classes", "outputs.logits: has 5 columns, but 4 classes are named"),
        ("unnamed", "outputs: none is named logits; there are: output (? x 4, f32)"),
        ("probabilities", "outputs.logits: are probabilities (rows sum to 1)"),
        ("not_a_number", "dry run: says NaN or infinity"),
        ("mixing", "with what else is in its batch"),
    ],
)
def test_a_broken_encoder_is_refused_with_its_fault(fault: str, words: str, broken: Callable[..., str]) -> None:
    assert words in broken(fault)


def test_the_same_graph_without_a_fault_is_taken(tmp_path: Path, bring: Bring) -> None:
    shutil.copy(TINY / "broken" / "sound.onnx", tmp_path)
    (tmp_path / "preprocessor_config.json").write_text('{"sampling_rate": 16000, "do_normalize": false}')
    done = bring("", path=tmp_path / "sound.onnx", labels="a=anger,b=happiness,c=none,d=fear")
    assert done.spec.labels == ["happiness", "fear", "anger"]
    assert done.spec.classes == {"a": "anger", "b": "happiness", "c": None, "d": "fear"}
    sound = np.full((1, 8000), 0.5, np.float32)
    logits = engines.load("mine", imported=tmp_path / "models").infer({"input_values": sound})["logits"]
    assert softmax(logits).argmax() == 2


def test_all_problems_are_reported_at_once(broken: Callable[..., str], tmp_path: Path) -> None:
    items = labelled.voices(tmp_path / "items", {"ang": 3, "hapy": 2, "neutral": 2})
    message = broken("fixed_batch", name="face_affect", labels="hap=hapiness", prior="joy=1", calibrate=items)
    for words in (
        "--name: face_affect is the name of a folder of models/",
        "labels.hap: no emotion hapiness; nearest: happiness",
        "--prior: must give each of",
        "--calibrate hapy: no class or emotion has this name; nearest: happy, hap",
        "its batch axis is fixed",
    ):
        assert words in message, message


def test_a_labelled_folder_that_is_too_small_is_refused_with_its_size(bring: Bring, tmp_path: Path) -> None:
    items = labelled.faces(tmp_path / "few", {"angry": 3, "happy": 4, "contempt": 200})
    assert "holds 7 items of this model's emotions; at least 100 are needed" in refusal(bring, "vit", calibrate=items)
    one = labelled.faces(tmp_path / "one", {"angry": 100})
    assert "all items of" in refusal(bring, "vit", calibrate=one)
    assert "no such folder" in refusal(bring, "vit", calibrate=tmp_path / "nowhere")


def test_files_that_cannot_be_read_are_counted_and_half_of_them_are_too_many(bring: Bring, tmp_path: Path) -> None:
    items = labelled.items("vit", tmp_path / "items")
    for n in range(3):
        (items / "sad" / f"{n}.png").write_bytes(b"no picture")
    done = bring("vit", calibrate=items)
    assert "3 items of items can't be read and are left out" in done.warnings
    for file in items.glob("*/*.png"):
        file.write_bytes(b"no picture")
    assert "120 of 120 items can't be read" in refusal(bring, "vit", name="other", calibrate=items)


def test_pictures_are_read_in_the_colours_and_the_middle_of_their_file(tmp_path: Path) -> None:
    wide = np.zeros((20, 60, 3), np.uint8)  # blue, green, red, as OpenCV has them
    wide[:, 20:40, 2] = 255
    assert cv2.imwrite(str(tmp_path / "red.png"), wide)
    item = Item(tmp_path / "red.png", "anger")
    ((face,), _) = read_items([item], model_input.ImageRgb(size=8, mean=(0, 0, 0), std=(1, 1, 1)), "face")
    assert face.min(axis=(1, 2)) == pytest.approx([1.0, 0.0, 0.0])
    ((grey,), _) = read_items([item], model_input.FaceGreyCrop(), "face")
    assert grey.shape == (48, 48)


def test_weights_larger_than_a_bound_are_warned_about(bring: Bring, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not any("MB of weights" in warning for warning in bring("bert", name="small").warnings)
    monkeypatch.setattr(folder, "LARGE_BYTES", 50_000)
    assert any("0 MB of weights: one item takes" in warning for warning in bring("bert").warnings)


def test_a_line_of_a_table_without_a_label_is_named(bring: Bring, tmp_path: Path) -> None:
    items = labelled.items("bert", tmp_path / "items")
    with (items / "lines.tsv").open("a") as out:
        out.write("no label here\n")
    assert "--calibrate lines.tsv:122: must be a text, a tab and its label" in refusal(bring, "bert", calibrate=items)


@pytest.mark.parametrize(
    ("path", "content", "words"),
    [
        ("nothing.onnx", None, "no such file or folder"),
        ("letter.onnx", b"Dear all, this is not a model.", "can't read it as an ONNX"),
        ("nothing.onnx", b"", "an empty file"),
        ("pointer.onnx", b"version https://git-lfs.github.com/spec/v1\n", "`git lfs pull` fetches it"),
        ("net.onnx", b"PK\x03\x04archive/data.pkl", "weights of PyTorch, not an ONNX"),
        ("st.onnx", b"\x80\0\0\0\0\0\0\0" + b'{"w":{"dtype":"F32"}}', "weights of PyTorch, not an ONNX"),
        ("apart.onnx", weights_apart("net.data"), "its weights are in net.data: save it as one file: python -c"),
        ("empty", {}, "neither an ONNX nor a Hugging Face folder: it has no config.json"),
        ("other", {"config.json": {"model_type": "convnext"}}, "convnext is no family that is known here"),
        (
            "swapped",
            {"config.json": {"model_type": "bert"}},
            "bert reads text, not face; for face: beit, deit, swin, vit",
        ),
        ("close", {"config.json": {"model_type": "vitt"}}, "nearest: vit"),
        ("headless", {"config.json": {"model_type": "vit", "architectures": ["ViTModel"]}}, "ViTModel gives no logits"),
        ("light", {"config.json": {"model_type": "vit"}}, "holds no weights: one of model.safetensors"),
        ("torn", {"config.json": "{"}, "config.json: is no JSON"),
        ("lists", {"config.json": {"model_type": "vit", "id2label": ["a"]}}, "config.json id2label: must be a map"),
    ],
)
def test_what_is_no_encoder_is_refused(path: str, content: Any, words: str, tmp_path: Path, bring: Bring) -> None:
    given = tmp_path / path
    if isinstance(content, bytes):
        given.write_bytes(content)
    elif content is not None:
        given.mkdir()
        for name, text in content.items():
            (given / name).write_text(text if isinstance(text, str) else json.dumps(text))
    assert words in refusal(bring, "", path=given, modality="face", labels="a=anger,b=fear")


def test_an_onnx_of_another_modality_is_refused_by_its_inputs(bring: Bring, tmp_path: Path) -> None:
    shutil.copy(TINY / "vit" / "model.onnx", tmp_path / "some.onnx")
    labels = "angry,disgust,fear,happy,sad,surprise,neutral,contempt"
    message = refusal(bring, "", path=tmp_path / "some.onnx", modality="voice", labels=labels)
    assert "inputs.pixel_values: pixel_values (? x 3 x 64 x 64, f32) must be batch x samples" in message
    message = refusal(bring, "", path=tmp_path / "some.onnx", modality="text", labels=labels)
    assert "inputs: must be input_ids and attention_mask" in message
    assert "tokenizer.json: is missing" in message
    message = refusal(bring, "", path=tmp_path / "some.onnx", modality="face", labels=labels)
    assert "preprocessor_config.json: is missing: write one beside it" in message


def test_a_preprocessor_that_does_not_fit_is_refused(bring: Bring, tmp_path: Path) -> None:
    folder = tmp_path / "given"
    shutil.copytree(TINY / "vit", folder)
    facts = {"size": 224, "rescale_factor": 1.0, "image_mean": [0.5], "image_std": [0.5, 0.5, 0.5]}
    (folder / "preprocessor_config.json").write_text(json.dumps(facts))
    message = refusal(bring, "", path=folder, modality="face")
    for words in ("size: 224 isn't a square that fits", "rescale_factor: must be 1/255", "image_mean: must be three"):
        assert words in message


def test_a_hugging_face_folder_without_the_packages_names_the_extra(
    bring: Bring, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"")
    shutil.copy(TINY / "vit" / "config.json", tmp_path)
    monkeypatch.setattr(source, "missing_packages", lambda: ["torch", "transformers"])
    message = refusal(bring, "", path=tmp_path, modality="face")
    assert "exported with torch, transformers, not installed here: install the extra train" in message
    assert message.startswith(f"import of {tmp_path}: 1 problem\n")


def test_every_label_of_the_families_is_known_or_named_with_its_nearest() -> None:
    found, problems = classes(["Angry", "HAP", "Contempt", "neu", "love", "surprised"], {})
    assert not problems
    assert list(found.values()) == ["anger", "happiness", None, "neutral", "happiness", "surprise"]
    found, problems = classes(["angri", "happy", "sad"], {})
    assert [p.path for p in problems] == ["labels.angri"]
    assert "nearest: angry" in problems[0].message
    assert "say angri=EMOTION or angri=none" in problems[0].message
    assert classes(["angri", "happy", "sad"], parse_labels("angri=anger"))[1] == []
    assert classes(["happy", "sad"], parse_labels("glad=happiness"))[1][0].path == "--labels glad"
    assert "fewer than 2 emotions" in classes(["happy", "joy", "bored"], {})[1][0].message


def test_labels_without_names_are_named_in_their_order() -> None:
    generic = ["LABEL_0", "LABEL_1"]
    assert "name the classes in their order" in classes(generic, {})[1][0].message
    assert classes(generic, parse_labels("LABEL_1=fear,LABEL_0=anger"))[0] == {"LABEL_0": "anger", "LABEL_1": "fear"}
    assert classes(generic, parse_labels("happy,sad"))[0] == {"happy": "happiness", "sad": "sadness"}
    assert "no config.json with id2label" in classes(None, {})[1][0].message


def test_a_label_map_is_a_json_map(tmp_path: Path) -> None:
    (tmp_path / "map.json").write_text('{"wut": "anger", "freude": "happiness", "rest": null}')
    assert read_label_map(tmp_path / "map.json") == {"wut": "anger", "freude": "happiness", "rest": None}
    (tmp_path / "map.json").write_text("[1]")
    with pytest.raises(ValueError, match="must be a JSON map"):
        read_label_map(tmp_path / "map.json")


def test_one_name_in_both_places_is_refused_at_load(tmp_path: Path) -> None:
    shutil.copytree(engines.MODELS / "voice_affect", tmp_path / "voice_affect")
    with pytest.raises(engines.ModelFolderError, match="have one name"):
        engines.read_spec("voice_affect", imported=tmp_path)
    (tmp_path / "voice_affect").rename(tmp_path / "other")
    with pytest.raises(engines.ModelFolderError, match="its name is voice_affect"):
        engines.read_spec("other", imported=tmp_path)
    with pytest.raises(engines.ModelFolderError, match="models here: face_affect, other"):
        engines.read_spec("my_face", imported=tmp_path)
    with pytest.raises(engines.ModelFolderError, match="STREAMER_MODELS names the folder of imported ones"):
        engines.read_spec("my_face")


def test_the_command_writes_the_folder_and_prints_the_topologys_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("STREAMER_MODELS", str(tmp_path / "mine"))
    monkeypatch.setenv("STREAMER_THREADS", "1")
    items = labelled.items("vit", tmp_path / "items")
    asked = ["model", "import", str(TINY / "vit"), "--name", "my_face", "--modality", "face"]
    assert main([*asked, "--calibrate", str(items)]) == 0
    captured = capsys.readouterr()
    assert captured.out.startswith("my_face@")
    assert "ECE" in captured.out
    assert "sense_face: params: {model: my_face}" in captured.err
    assert engines.read_spec("my_face", imported=tmp_path / "mine").labels == list(SEVEN)
    assert main(asked) == 78
    assert "is there already" in capsys.readouterr().err


def test_the_command_needs_a_destination_and_a_modality(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("STREAMER_MODELS", raising=False)
    assert main(["model", "import", str(TINY / "bert"), "--name", "x", "--modality", "text"]) == 78
    assert "--out: say where to write it, or set STREAMER_MODELS" in capsys.readouterr().err
    assert main(["model", "import", str(TINY / "bert"), "--name", "x", "--modality", "smell"]) == 78
    assert "--modality: 'smell' is nothing that an encoder reads here: use face, voice, text" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["a/b", "..", "", "Face", "a" * 300])
def test_a_name_that_is_no_folders_is_a_problem_among_the_others(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ["model", "import", str(TINY / "bert"), "--name", name, "--modality", "face", "--out", str(tmp_path / "m")]
    assert main(asked) == 78
    told = capsys.readouterr().err
    assert "--name: " in told
    assert "bert reads text, not face" in told
    assert not (tmp_path / "m").exists()


def test_of_an_output_with_several_names_the_graphs_is_taken(tmp_path: Path, bring: Bring) -> None:
    given = Path(__file__).parents[1] / "awkward_inputs" / "onnx-identity"
    done = bring("", path=given, modality="face")
    engine = engines.load("mine", threads=1, imported=tmp_path / "models")
    assert done.spec.outputs.keys() == {"logits"}
    (logits,) = engine.infer({"x": np.full((1, 1, 48, 48), 7, np.float32)}).values()
    assert logits.shape == (1, 4)
