"""Small labelled folders of noise, to calibrate and test untrained encoders on."""

from __future__ import annotations

import wave
from pathlib import Path

import cv2
import numpy as np

FOR = {"vit": "face", "wav2vec2": "voice", "bert": "text"}
"""The modality of each family."""
_WORDS = "love hate happy sad angry scared wow bus night music friend alone work day".split()


def faces(folder: Path, labels: dict[str, int], seed: int = 0) -> Path:
    """Write a folder for each label with this number of pictures of 20 x 20 random pixels."""
    rng = np.random.default_rng(seed)
    for label, count in labels.items():
        (folder / label).mkdir(parents=True)
        for n in range(count):
            assert cv2.imwrite(str(folder / label / f"{n}.png"), rng.integers(0, 256, (20, 20, 3), dtype=np.uint8))
    return folder


def voices(folder: Path, labels: dict[str, int], seed: int = 0) -> Path:
    """Write a folder for each label with this number of recordings of 0.3 to 1 s of noise."""
    rng = np.random.default_rng(seed)
    for label, count in labels.items():
        (folder / label).mkdir(parents=True)
        for n in range(count):
            samples = rng.normal(0, rng.integers(500, 5000), rng.integers(4800, 16_000)).astype("<i2")
            with wave.open(str(folder / label / f"{n}.wav"), "wb") as out:
                out.setparams((1, 2, 16_000, len(samples), "NONE", ""))
                out.writeframes(samples.tobytes())
    return folder


def texts(folder: Path, labels: dict[str, int], seed: int = 0) -> Path:
    """Write a table with this number of lines of random words for each label."""
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True)
    lines = [f"{' '.join(rng.choice(_WORDS, 8))}\t{label}\n" for label, count in labels.items() for _ in range(count)]
    (folder / "lines.tsv").write_text("text\tlabel\n" + "".join(lines), encoding="utf-8")
    return folder


def items(family: str, folder: Path, seed: int = 0) -> Path:
    """Write a labelled folder of 120 items that this family's encoder has classes for."""
    if family == "vit":
        return faces(folder, {"angry": 40, "happy": 40, "sad": 40}, seed)
    if family == "wav2vec2":
        return voices(folder, {"ang": 40, "hap": 40, "neu": 40}, seed)
    return texts(folder, {"joy": 40, "anger": 40, "fear": 40}, seed)
