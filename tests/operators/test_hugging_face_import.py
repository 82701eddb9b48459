"""An imported Hugging Face folder gives the same logits as transformers does.

Needs the extra `train`, see pyproject.toml:
`pip install -e '.[dev,train]' && python -m pytest -m train`
"""

import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from kernels import engines, model_input
from kernels.face.crop import Square
from kernels.voice.speech import track_pitch
from operators.model_import.folder import ImportRequest, import_model
from operators.model_import.hugging_face import FAMILIES
from streamer.errors import ConfigurationError
from tests.tiny_encoders import labelled, make

TINY = Path(__file__).parents[1] / "tiny_encoders"
pytestmark = [pytest.mark.train, pytest.mark.timeout(300), pytest.mark.filterwarnings("default")]


@pytest.fixture
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A family's folder as `save_pretrained` writes it."""
    make.write(request.param, tmp_path / request.param)
    return tmp_path / str(request.param)


def imported(folder: Path, **changes: Any) -> engines.Engine:
    out = folder.parent / "models"
    fields: dict[str, Any] = {
        "path": folder,
        "name": "mine",
        "modality": labelled.FOR.get(folder.name),
        "out": out,
        **changes,
    }
    import_model(ImportRequest(**fields))
    return engines.load("mine", threads=1, imported=out)


@pytest.mark.parametrize("folder", ["vit"], indirect=True)
def test_a_vit_reads_a_picture_as_transformers_does(folder: Path) -> None:
    import torch
    import transformers

    picture = cv2.GaussianBlur(np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8), (0, 0), 3)
    engine = imported(folder)
    input_format = model_input.face_input(engine.spec)
    ours, _ = model_input.raw_outputs(engine, input_format, [input_format.cut(picture, Square(0, 0, 40))] * 3)
    processor = transformers.AutoImageProcessor.from_pretrained(folder)
    pixels = processor(images=picture, return_tensors="pt")["pixel_values"]
    with torch.no_grad():
        theirs = transformers.ViTForImageClassification.from_pretrained(folder)(pixels).logits.numpy()
    assert ours == pytest.approx(np.repeat(theirs, 3, axis=0), abs=0.05)
    assert list(engine.spec.classes) == make.LABELS["vit"]


@pytest.mark.parametrize("folder", ["wav2vec2"], indirect=True)
def test_a_wav2vec2_reads_clips_of_any_length_as_transformers_does(folder: Path) -> None:
    import torch
    import transformers

    rng = np.random.default_rng(0)
    pieces = [rng.normal(0.01, 0.1, n).astype(np.float32) for n in (16_000, 9600, 48_000, 16_000, 11_111)]
    engine = imported(folder)
    clips = [track_pitch(piece) for piece in pieces]
    ours, _ = model_input.raw_outputs(engine, model_input.voice_input(engine.spec), clips)
    extractor = transformers.AutoFeatureExtractor.from_pretrained(folder)
    model = transformers.Wav2Vec2ForSequenceClassification.from_pretrained(folder)
    for piece, logits in zip(pieces, ours, strict=True):
        values = extractor(piece, sampling_rate=16_000, return_tensors="pt")["input_values"]
        with torch.no_grad():
            assert logits == pytest.approx(model(values).logits.numpy()[0], abs=1e-3)


@pytest.mark.parametrize("folder", ["bert"], indirect=True)
def test_a_bert_reads_lines_as_transformers_does(folder: Path) -> None:
    import torch
    import transformers

    lines = ["I love this night!", "no", "so angry and alone 😀 at home, at work, and so on and on"]
    (folder / "tokenizer.json").unlink()  # an older folder has only its vocabulary
    engine = imported(folder)
    input_format = model_input.text_input(engine.spec)
    ours = engine.infer(input_format.arrays(input_format.tokens(engine.spec.folder, 64).encode(lines)))["logits"]
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = transformers.BertForSequenceClassification.from_pretrained(folder)
    with torch.no_grad():
        theirs = model(**tokenizer(lines, padding=True, return_tensors="pt")).logits.numpy()
    assert ours == pytest.approx(theirs, abs=1e-3)


@pytest.mark.parametrize("folder", ["vit"], indirect=True)
def test_weights_without_a_head_are_refused_instead_of_drawn_at_random(folder: Path) -> None:
    import transformers

    config = (folder / "config.json").read_bytes()
    transformers.ViTModel.from_pretrained(folder).save_pretrained(folder)
    (folder / "config.json").write_bytes(config)
    with pytest.raises(ConfigurationError, match=r"its weights lack classifier\.bias, classifier\.weight"):
        imported(folder)


@pytest.mark.parametrize("folder", ["vit", "wav2vec2", "bert"], indirect=True)
def test_the_encoders_of_the_other_tests_are_made_by_the_recipe_they_name(folder: Path) -> None:
    engine = imported(folder)
    kept = import_model(
        ImportRequest(
            path=TINY / folder.name,
            name="kept",
            modality=engine.spec.modality,
            out=folder.parent / "models",
        )
    )
    assert kept.spec.classes == engine.spec.classes
    assert kept.spec.input == engine.spec.input
    assert kept.spec.outputs == engine.spec.outputs


SMALL: dict[str, Any] = {
    "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32,
    "id2label": {0: "angry", 1: "happy", 2: "sad"}, "label2id": {"angry": 0, "happy": 1, "sad": 2},
}  # fmt: skip
IMAGE = {"image_size": 64, "patch_size": 16}
SOUND = {
    "conv_dim": [8] * 7, "num_conv_pos_embeddings": 16, "num_conv_pos_embedding_groups": 2, "classifier_proj_size": 16,
}  # fmt: skip
WORDS = {"vocab_size": 300, "max_position_embeddings": 66}
RELATIVES: dict[str, tuple[str, dict[str, Any]]] = {
    "deit": ("DeiT", IMAGE),
    "beit": ("Beit", IMAGE),
    "swin": ("Swin", {"image_size": 64, "embed_dim": 16, "depths": [1, 1], "num_heads": [2, 2], "window_size": 4}),
    "hubert": ("Hubert", SOUND),
    "wavlm": ("WavLM", SOUND),
    "distilbert": ("DistilBert", {**WORDS, "dim": 16, "n_layers": 1, "n_heads": 2, "hidden_dim": 32}),
    "roberta": ("Roberta", {**WORDS, "pad_token_id": 1}),
    "xlm-roberta": ("XLMRoberta", {**WORDS, "pad_token_id": 1}),
    "electra": ("Electra", {**WORDS, "embedding_size": 16}),
}


def test_every_family_that_is_named_is_tried_here() -> None:
    assert {*RELATIVES, *make.LABELS} == frozenset().union(*FAMILIES.values())


@pytest.mark.parametrize("family", RELATIVES)
def test_the_relatives_give_the_logits_of_transformers(family: str, tmp_path: Path) -> None:
    import torch
    import transformers

    name, changes = RELATIVES[family]
    modality = next(m for m, types in FAMILIES.items() if family in types)
    kept = {k: v for k, v in SMALL.items() if family not in ("swin", "distilbert") or "2" in k}
    config = getattr(transformers, f"{name}Config")(**kept, **changes)
    head = "Image" if modality == "face" else "Sequence"
    torch.manual_seed(0)
    model = getattr(transformers, f"{name}For{head}Classification")(config).eval()
    model.save_pretrained(tmp_path / family)
    own = {"face": "vit/preprocessor_config.json", "voice": "wav2vec2/preprocessor_config.json"}
    given = TINY / own.get(modality, "bert/tokenizer.json")
    shutil.copy(given, tmp_path / family)
    engine = imported(tmp_path / family, modality=modality)
    rng = np.random.default_rng(0)
    inputs: dict[str, Any]
    if modality == "text":
        tokenizer = model_input.text_input(engine.spec).tokens(engine.spec.folder, 32)
        tokens = tokenizer.encode(["happy", "I love this night"])
        inputs = {"input_ids": tokens.input_ids, "attention_mask": tokens.attention_mask}
    elif modality == "voice":
        inputs = {"input_values": rng.normal(size=(2, 12_345)).astype(np.float32)}
    else:
        inputs = {"pixel_values": rng.normal(size=(3, 3, 64, 64)).astype(np.float32)}
    with torch.no_grad():
        theirs = model(**{key: torch.from_numpy(value) for key, value in inputs.items()}).logits.numpy()
    assert engine.infer(inputs)["logits"] == pytest.approx(theirs, abs=1e-4)
