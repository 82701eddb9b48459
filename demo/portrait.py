"""Alter the expression of a face in a public-domain photograph, by warping it and painting on it.

The face is warped by a thin-plate spline through hand-placed landmarks (Bookstein, "Principal Warps", IEEE TPAMI 11(6),
1989, eq. 3-6). What a warp can't do is painted on the source first: closed lips over the teeth, skin over the folds of
a smile, a frown's creases, fuller brows. The amounts were found by trying them with the face model.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

PICTURE = Path(__file__).with_name("astronaut.jpg")
WIDTH, HEIGHT = 320, 240
ZOOM = 3
"""Landmarks are in pixels of the photograph; paint and warp work on it this much enlarged."""
MASK_THRESHOLD = 0.15
"""Where the mask of the smile is above this, the picture is inpainted."""
LAYERS = ("bare", "brows", "worry", "frown")
MOUTH = ("half_width", "middle", "hang", "upper_lip", "lower_lip", "open")

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


@dataclass(frozen=True, slots=True)
class Pose:
    """An expression: displacements of landmarks, the shape of the mouth, and the opacity of each painted layer.

    Lengths are in pixels of the photograph, y downwards, x towards the middle of the face; both sides move alike. The
    default is the smile of the photograph: nothing moves, and with `bare` 0 neither skin nor mouth is painted.
    """

    brow_in: tuple[float, float] = (0, 0)
    brow_mid: float = 0
    brow_out: float = 0
    eye_top: float = 0
    eye_low: float = 0
    eye_out: float = 0
    eye_in: float = 0
    nose: tuple[float, float] = (0, 0)
    cheek: float = 0
    chin: float = 0
    half_width: float = 21
    middle: float = 136
    hang: float = -6
    upper_lip: float = 3
    lower_lip: float = 6
    open: float = 0
    bare: float = 0
    brows: float = 0
    worry: float = 0
    frown: float = 0

    def displacements(self) -> dict[str, tuple[float, float]]:
        """The displacement (x, y) of each landmark that moves."""
        moves = {"chin": (0.0, self.chin)}
        for side, inwards in (("l", 1), ("r", -1)):
            moves |= {
                f"brow_{side}_in": (inwards * self.brow_in[0], self.brow_in[1]),
                f"brow_{side}_mid": (0, self.brow_mid),
                f"brow_{side}_out": (0, self.brow_out),
                f"eye_{side}_top": (0, self.eye_top),
                f"eye_{side}_low": (0, self.eye_low),
                f"eye_{side}_out": (0, self.eye_out),
                f"eye_{side}_in": (0, self.eye_in),
                f"nose_{side}": (inwards * self.nose[0], self.nose[1]),
                f"cheek_{side}": (0, self.cheek),
            }
        return moves


# The face model recognises each of these as its name, from several framings of the crop.
POSES: Mapping[str, Pose] = {
    "happiness": Pose(),
    "neutral": Pose(
        brow_in=(0, 0.8), brow_mid=-0.7, brow_out=-0.8, eye_top=2.8, eye_low=0.8, eye_out=-2, eye_in=-0.4,
        nose=(0, -1.8), cheek=2.2, chin=-2,
        half_width=15.6, middle=138.5, hang=1.9, upper_lip=3.5, lower_lip=2.1,
        bare=1, brows=0.6,
    ),
    "sadness": Pose(
        brow_in=(2.3, -6), brow_mid=5, brow_out=1.9, eye_top=3, eye_out=2.7, eye_in=-1.3,
        nose=(-0.6, -1.1), cheek=3, chin=-2,
        half_width=19, middle=133, hang=4.3, upper_lip=2.6, lower_lip=4.5,
        bare=1, brows=0.9, worry=0.75,
    ),
    "anger": Pose(
        brow_in=(2.2, 6.6), brow_mid=-1, brow_out=3, eye_top=3.2, eye_low=0.6, eye_out=-2, eye_in=0.6,
        nose=(-4, -4), cheek=-2.5, chin=-0.4,
        half_width=10, middle=138.5, hang=2.6, upper_lip=1.3, lower_lip=3, open=9,
        bare=1, brows=1.2, frown=1.1,
    ),
}  # fmt: skip
MOUTH_X = 121.5
FINE = 2
"""The mouth is drawn this much larger than the frame."""
LIP_BGR, LINE_BGR, SHADE_BGR = (112, 112, 178), (45, 45, 90), (90, 110, 150)
INSIDE_BGR, TEETH_BGR = (40, 35, 60), (205, 212, 218)


class Portrait:
    """The photograph, its painted layers and a warp for each of `POSES`; the constructor takes about a second.

    Raises:
        FileNotFoundError: the photograph is missing.
    """

    def __init__(self) -> None:
        import cv2

        photograph = cv2.imread(str(PICTURE))
        if photograph is None:
            raise FileNotFoundError(PICTURE)
        self._height, self._width = photograph.shape[:2]
        size = (self._width * ZOOM, self._height * ZOOM)
        self._layers = _layers(np.asarray(cv2.resize(photograph, size, interpolation=cv2.INTER_CUBIC), np.uint8))
        self._warps = {name: self._warp(pose.displacements()) for name, pose in POSES.items()}

    def frame(self, weights: Mapping[str, float]) -> Image:
        """Draw the face with a mix of expressions (weights that sum to 1) as a BGR picture, 240 x 320."""
        import cv2

        mixed = {name: sum(w * getattr(POSES[pose], name) for pose, w in weights.items()) for name in (*MOUTH, *LAYERS)}
        source = self._layers["photograph"].copy()
        for layer in LAYERS:
            if mixed[layer]:
                source += mixed[layer] * self._layers[layer]
        x, y = self._grid()
        dx = sum((w * self._warps[name][0] for name, w in weights.items()), np.zeros_like(x))
        dy = sum((w * self._warps[name][1] for name, w in weights.items()), np.zeros_like(y))
        at_x, at_y = ((x + dx) * ZOOM).astype(np.float32), ((y + dy) * ZOOM).astype(np.float32)
        warped = cv2.remap(source.clip(0, 255), at_x, at_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        painted = self._with_mouth(np.asarray(warped, np.float64), **mixed)
        return np.asarray(painted.round().clip(0, 255), np.uint8)

    def empty(self) -> Image:
        """Draw the backdrop without the person, as large as a frame."""
        import cv2

        corners = self._layers["photograph"][: 8 * ZOOM, :: self._width * ZOOM - 1]
        one_row = corners.mean(axis=0, keepdims=True).astype(np.float32)
        return np.asarray(cv2.resize(one_row, (WIDTH, HEIGHT), interpolation=cv2.INTER_LINEAR).round(), np.uint8)

    def _with_mouth(self, picture: Points, **mixed: float) -> Points:
        import cv2

        scale = WIDTH / self._width
        across = np.linspace(-1, 1, 41)
        x = MOUTH_X + mixed["half_width"] * across
        line = mixed["middle"] + mixed["hang"] * across**2
        full = (1 - across**2) ** 0.7
        top = line - mixed["upper_lip"] * full * (1 - 0.25 * np.exp(-((across / 0.15) ** 2)))
        inner = line + mixed["open"] * full
        low = inner + mixed["lower_lip"] * full

        def mask(outline: Points, blur: float, *, closed: bool) -> Points:
            drawn = np.zeros((HEIGHT * FINE, WIDTH * FINE), np.uint8)
            points = ((outline + 0.5) * scale * FINE).round().astype(np.int32)
            if closed:
                cv2.fillPoly(drawn, [points], 255)
            else:
                cv2.polylines(drawn, [points], False, 255, 2 * FINE, cv2.LINE_AA)
            small = cv2.resize(drawn, (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA).astype(np.float64) / 255
            return np.asarray(cv2.GaussianBlur(small, (0, 0), blur))[..., None]

        def between(above: Points, below: Points) -> Points:
            return np.column_stack([np.r_[x, x[::-1]], np.r_[above, below[::-1]]])

        strokes = [(mask(between(top, low), 0.9, closed=True), LIP_BGR, 0.75)]
        if mixed["open"] > 0:
            teeth = line + 0.55 * mixed["open"] * full
            strokes.append((mask(between(line, inner), 0.6, closed=True), INSIDE_BGR, 0.95))
            strokes.append((mask(between(line, teeth)[4:-4], 0.7, closed=True), TEETH_BGR, 0.8))
        strokes.append((mask(np.column_stack([x, line]), 0.7, closed=False), LINE_BGR, 0.95))
        under = np.column_stack([x[10:31], low[10:31] + 2.5])
        strokes.append((mask(under, 1.6, closed=False), SHADE_BGR, 0.35))
        for where, colour, opacity in strokes:
            picture = picture + mixed["bare"] * opacity * where * (np.array(colour) - picture)
        return picture

    def _grid(self) -> tuple[Points, Points]:
        x = (np.arange(WIDTH) + 0.5) * self._width / WIDTH - 0.5
        y = (np.arange(HEIGHT) + 0.5) * self._height / HEIGHT - 0.5
        grid_x, grid_y = np.meshgrid(x, y)
        return grid_x, grid_y

    def _warp(self, moves: Mapping[str, tuple[float, float]]) -> tuple[Points, Points]:
        """For each pixel of the output the offset of its source, in x and in y."""
        before = np.array(list(LANDMARKS.values()), np.float64)
        after = before + np.array([moves.get(name, (0, 0)) for name in LANDMARKS], np.float64)
        x, y = self._grid()
        found = spline(after, before - after, np.column_stack([x.ravel(), y.ravel()]))
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
    """The enlarged photograph and, for each of `LAYERS`, what is added to its BGR values at opacity 1."""
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
    skin = cv2.inpaint(photograph, (smile > MASK_THRESHOLD).astype(np.uint8), 3 * ZOOM, cv2.INPAINT_TELEA)
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
