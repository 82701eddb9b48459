"""One public-domain photograph and expression weights in, altered pictures of the same face out: a warp and some paint.

The face is moved by a thin-plate spline through hand-placed landmarks (Bookstein, "Principal Warps", IEEE TPAMI 11(6),
1989, eq. 3-6). What a warp can't do is painted on the source first: closed lips over the teeth, no folds of a smile, a
frown's creases, fuller brows. Which amounts the face model reads as what was tried with the model itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

PICTURE = Path(__file__).with_name("astronaut.jpg")
WIDTH, HEIGHT = 320, 240
ZOOM = 3
SEEN = 0.15
"""Where a mask is above this, the picture is taken out and filled from around it."""
LAYERS = ("bare", "brows", "worry", "frown")
"""Landmarks are in pixels of the photograph; paint and warp work on it this much enlarged."""

Points = NDArray[np.float64]
Image = NDArray[np.uint8]

# Landmarks of the photograph, in its pixels. `l` and `r` are the viewer's left and right.
LANDMARKS: Mapping[str, tuple[float, float]] = {
    "brow_l_out": (87, 81), "brow_l_mid": (95, 79), "brow_l_in": (110, 83.5),
    "brow_r_in": (135.5, 83.5), "brow_r_mid": (150, 82.5), "brow_r_out": (159, 87),
    "eye_l_out": (90, 90), "eye_l_top": (100, 86), "eye_l_in": (110, 93), "eye_l_low": (100, 96),
    "eye_r_in": (134, 95), "eye_r_top": (146, 88.5), "eye_r_out": (156, 93), "eye_r_low": (146, 98),
    "cheek_l": (92, 116), "cheek_r": (154, 118),
    "nose_l": (108, 118), "nose_r": (131, 119), "nose_base": (120, 122.5),
    "mouth_l": (100, 130.5), "mouth_r": (143.5, 130),
    "upper_l": (109, 130.7), "upper": (121, 131.7), "upper_r": (133, 130.7),
    "teeth_top_l": (109, 132.8), "teeth_top": (121, 134.2), "teeth_top_r": (133, 133.0),
    "teeth_low_l": (110, 137.3), "teeth_low": (121, 139.8), "teeth_low_r": (131, 137.8),
    "lower_l": (109, 140.5), "lower": (121, 144.5), "lower_r": (134, 140),
    "chin": (119, 168), "jaw_l": (97, 158), "jaw_r": (142, 160),
    "side_l": (80, 120), "side_r": (165, 118), "low_l": (83, 140), "low_r": (157, 146),
    "hair_l": (84, 72), "hair": (122, 68), "hair_r": (162, 78),
    "corner_1": (0, 0), "corner_2": (239, 0), "corner_3": (0, 179), "corner_4": (239, 179),
    "edge_1": (0, 90), "edge_2": (239, 90), "edge_3": (120, 0), "edge_4": (120, 179),
}  # fmt: skip

# Where a landmark goes in an expression, in pixels from where it is; `happiness` is the photograph's own smile.
_CALM: dict[str, tuple[float, float]] = {
    "cheek_l": (0, 2), "cheek_r": (0, 2), "chin": (0, -1.5), "eye_l_low": (0, 0.8), "eye_r_low": (0, 0.8),
}  # fmt: skip
MOVES: Mapping[str, Mapping[str, tuple[float, float]]] = {
    "happiness": {},
    "neutral": _CALM,
    "sadness": {
        **_CALM,
        "brow_l_in": (1, -5), "brow_r_in": (-1, -5), "brow_l_out": (0, 3), "brow_r_out": (0, 3),
        "brow_r_mid": (0, -0.5),
        "eye_l_top": (0, 2), "eye_r_top": (0, 2), "eye_l_out": (0, 2), "eye_r_out": (0, 2),
        "eye_l_in": (0, -1), "eye_r_in": (0, -1),
    },
    "anger": {
        **_CALM,
        "brow_l_in": (4, 6.5), "brow_r_in": (-4, 6.5), "brow_l_mid": (2, 4), "brow_r_mid": (-2, 4),
        "brow_l_out": (0, -1), "brow_r_out": (0, -1),
        "eye_l_top": (0, 2), "eye_r_top": (0, 2), "eye_l_low": (0, -1), "eye_r_low": (0, -1),
        "eye_l_in": (0, 1), "eye_r_in": (0, 1), "nose_l": (-1.5, -1), "nose_r": (1.5, -1),
    },
}  # fmt: skip


class Mouth(NamedTuple):
    """Closed lips to paint: half their width, where their middle is, how far the corners hang, each lip's height.

    In pixels of the photograph.
    """

    half: float
    middle: float
    hang: float
    upper: float
    lower: float


MOUTHS: Mapping[str, Mouth] = {
    "happiness": Mouth(21, 136, -6, 3, 6),
    "neutral": Mouth(17, 138, 0.5, 2.5, 4),
    "sadness": Mouth(15, 137, 6, 2.5, 4),
    "anger": Mouth(14, 137, 3, 1.2, 1.8),
}
# How much of each layer of paint an expression wears, 0..1.
PAINT: Mapping[str, Mapping[str, float]] = {
    "happiness": {},
    "neutral": {"bare": 1, "brows": 0.4},
    "sadness": {"bare": 1, "brows": 0.8, "worry": 0.6},
    "anger": {"bare": 1, "brows": 1, "frown": 0.8},
}
MOUTH_X = 121.5
LIP_BGR, LINE_BGR = (112, 112, 178), (45, 45, 90)


class Portrait:
    """The photograph, its painted layers and a warp for each expression; made once, in about a second."""

    def __init__(self, picture: Path = PICTURE) -> None:
        import cv2

        photograph = cv2.imread(str(picture))
        if photograph is None:
            raise FileNotFoundError(picture)
        self._height, self._width = photograph.shape[:2]
        size = (self._width * ZOOM, self._height * ZOOM)
        self._layers = _layers(cv2.resize(photograph, size, interpolation=cv2.INTER_CUBIC))
        self._moved = {name: self._displacement(moves) for name, moves in MOVES.items()}

    def frame(self, weights: Mapping[str, float], shift: tuple[float, float] = (0.0, 0.0)) -> Image:
        """Expression weights (sum 1) to a BGR picture, 240 x 320; `shift` moves it by pixels of the photograph."""
        import cv2

        worn = {layer: sum(w * PAINT[name].get(layer, 0.0) for name, w in weights.items()) for layer in LAYERS}
        source = self._layers["photograph"].copy()
        for layer, amount in worn.items():
            if amount:
                source += amount * self._layers[layer]
        x, y = self._grid()
        dx = sum((w * self._moved[name][0] for name, w in weights.items()), np.zeros_like(x))
        dy = sum((w * self._moved[name][1] for name, w in weights.items()), np.zeros_like(y))
        at_x, at_y = (x + dx - shift[0]) * ZOOM, (y + dy - shift[1]) * ZOOM
        warped = cv2.remap(
            source.clip(0, 255), at_x.astype(np.float32), at_y.astype(np.float32), cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_REPLICATE,
        )  # fmt: skip
        mouth = Mouth(*(sum(w * MOUTHS[n][i] for n, w in weights.items()) for i in range(len(Mouth._fields))))
        return np.asarray(self._with_mouth(warped, mouth, worn["bare"], shift).round().clip(0, 255), np.uint8)

    def empty(self) -> Image:
        """The backdrop without the person, as large as a frame."""
        import cv2

        corners = self._layers["photograph"][: 8 * ZOOM, :: self._width * ZOOM - 1]
        one_row = corners.mean(axis=0, keepdims=True).astype(np.float32)
        return np.asarray(cv2.resize(one_row, (WIDTH, HEIGHT), interpolation=cv2.INTER_LINEAR).round(), np.uint8)

    def _with_mouth(self, picture: Points, mouth: Mouth, amount: float, shift: tuple[float, float]) -> Points:
        import cv2

        scale, fine = WIDTH / self._width, 4
        across = np.linspace(-1, 1, 41)
        x = MOUTH_X + mouth.half * across
        line = mouth.middle + mouth.hang * across**2
        full = 1 - across**2
        top = line - mouth.upper * full**0.7 * (1 - 0.25 * np.exp(-((across / 0.15) ** 2)))
        low = line + mouth.lower * full**0.7

        def mask(outline: Points, blur: float, *, closed: bool) -> Points:
            drawn = np.zeros((HEIGHT * fine // 2, WIDTH * fine // 2), np.uint8)
            points = ((outline + np.array(shift) + 0.5) * scale * fine / 2).round().astype(np.int32)
            if closed:
                cv2.fillPoly(drawn, [points], 255)
            else:
                cv2.polylines(drawn, [points], False, 255, fine, cv2.LINE_AA)
            small = cv2.resize(drawn, (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA).astype(np.float64) / 255
            return np.asarray(cv2.GaussianBlur(small, (0, 0), blur))[..., None]

        lips = np.column_stack([np.r_[x, x[::-1]], np.r_[top, low[::-1]]])
        under = np.column_stack([x[10:31], low[10:31] + 2.5])
        for where, colour, opacity in (
            (mask(lips, 0.9, closed=True), LIP_BGR, 0.75),
            (mask(np.column_stack([x, line]), 0.7, closed=False), LINE_BGR, 0.95),
            (mask(under, 1.6, closed=False), (90, 110, 150), 0.35),
        ):
            picture = picture + amount * opacity * where * (np.array(colour) - picture)
        return picture

    def _grid(self) -> tuple[Points, Points]:
        x = (np.arange(WIDTH) + 0.5) * self._width / WIDTH - 0.5
        y = (np.arange(HEIGHT) + 0.5) * self._height / HEIGHT - 0.5
        grid_x, grid_y = np.meshgrid(x, y)
        return grid_x, grid_y

    def _displacement(self, moves: Mapping[str, tuple[float, float]]) -> tuple[Points, Points]:
        """For each pixel of the output how far from it its source lies, in x and in y."""
        here = np.array(list(LANDMARKS.values()), np.float64)
        there = here + np.array([moves.get(name, (0, 0)) for name in LANDMARKS], np.float64)
        x, y = self._grid()
        found = spline(there, here - there, np.column_stack([x.ravel(), y.ravel()]))
        return found[:, 0].reshape(x.shape), found[:, 1].reshape(x.shape)


def spline(points: Points, values: Points, at: Points) -> Points:
    """The thin-plate spline through n points (n, 2) with values (n, k), evaluated at m points (m, 2): (m, k)."""
    n = len(points)
    system = np.zeros((n + 3, n + 3))
    system[:n, :n] = _kernel(points, points) + 1e-3 * np.eye(n)
    system[:n, n:] = np.column_stack([np.ones(n), points])
    system[n:, :n] = system[:n, n:].T
    solved = np.linalg.solve(system, np.vstack([values, np.zeros((3, values.shape[1]))]))
    return np.asarray(_kernel(at, points) @ solved[:n] + np.column_stack([np.ones(len(at)), at]) @ solved[n:])


def _kernel(a: Points, b: Points) -> Points:
    squared = (a[:, :1] - b[:, 0]) ** 2 + (a[:, 1:] - b[:, 1]) ** 2
    return np.asarray(0.5 * squared * np.log(np.maximum(squared, 1e-12)))


def _layers(photograph: Image) -> dict[str, NDArray[np.float32]]:
    """The enlarged photograph to itself, its painted variants, and where each is to be seen (0..1)."""
    import cv2

    def at(*points: tuple[float, float]) -> NDArray[np.int32]:
        return np.array([[round((x + 0.5) * ZOOM), round((y + 0.5) * ZOOM)] for x, y in points], np.int32)

    def mask(draw: str, points: NDArray[np.int32], width: float, blur: float) -> NDArray[np.float32]:
        drawn = np.zeros(photograph.shape[:2], np.uint8)
        if draw == "fill":
            cv2.fillPoly(drawn, [points], 255)
        else:
            cv2.polylines(drawn, [points], False, 255, max(1, round(width * ZOOM)), cv2.LINE_AA)
        return np.asarray(cv2.GaussianBlur(drawn, (0, 0), blur * ZOOM) / 255.0, np.float32)

    def marks(*names: str) -> list[tuple[float, float]]:
        return [LANDMARKS[n] for n in names]

    original = photograph.astype(np.float32)
    smile = np.maximum.reduce([
        mask("line", at((107, 111), (100, 118), (93, 126), (94, 133)), 6, 0.3),
        mask("line", at((133, 111), (139, 117), (147, 126), (149, 133)), 6, 0.3),
        mask("fill", at((97, 129), (121, 129.5), (147, 128), (136, 142), (121, 146.5), (108, 143)), 0, 0.3),
    ])  # fmt: skip
    skin = cv2.inpaint(photograph, (smile > SEEN).astype(np.uint8), 3 * ZOOM, cv2.INPAINT_TELEA)
    skin = cv2.GaussianBlur(skin, (0, 0), 1.5 * ZOOM).astype(np.float32)
    brows = np.maximum(
        mask("line", at(*marks("brow_l_out", "brow_l_mid", "brow_l_in")), 2.2, 0.7),
        mask("line", at(*marks("brow_r_in", "brow_r_mid", "brow_r_out")), 2.2, 0.7),
    )
    frown = mask("line", at((117, 81), (118.5, 89)), 1.2, 0.8) + mask("line", at((128, 81), (126.5, 89)), 1.2, 0.8)
    worry = mask("line", at((108, 74), (122, 72.5), (136, 75)), 1, 0.8)
    dark = np.array((-70, -75, -80), np.float32)
    return {
        "photograph": original,
        "bare": cv2.GaussianBlur(smile, (0, 0), 0.7 * ZOOM)[..., None].clip(0, 1) * (skin - original),
        "brows": brows[..., None] * dark,
        "frown": frown[..., None] * 0.9 * dark,
        "worry": worry[..., None] * 0.5 * dark,
    }
