"""Makes the parts of generated scenes: outlines, textures, smooth noise, the table of classes.

Outlines are polygons inside the unit circle. Textures map pixel coordinates to [0, 1], with soft
steps so that they do not alias. Neither knows about color: colors are drawn at random and tell
nothing about the class.
"""

from __future__ import annotations

import cv2
import numpy as np

# name -> (outline, texture): classes differ in both, so either helps where the other is hidden.
THINGS: dict[str, tuple[str, str]] = {
    "striped disc": ("disc", "stripes"),
    "checked square": ("square", "checks"),
    "dotted triangle": ("triangle", "dots"),
    "netted star": ("star", "net"),
    "blotched ring": ("ring", "blotches"),
    "plain cross": ("cross", "plain"),
    "wavy hexagon": ("hexagon", "waves"),
    "ringed crescent": ("crescent", "rings"),
}
STUFF = ("cloud", "gravel")
CLASSES = (*STUFF, *THINGS)
PALETTE = (
    (173, 203, 227),
    (141, 128, 112),
    (214, 69, 65),
    (245, 166, 35),
    (60, 141, 188),
    (120, 84, 168),
    (46, 160, 103),
    (229, 115, 163),
    (38, 70, 83),
    (188, 189, 34),
)


def _regular(corners: int, radius: float = 1.0) -> np.ndarray:
    angles = np.arange(corners) * (2 * np.pi / corners) - np.pi / 2  # a corner on top
    return radius * np.stack([np.cos(angles), np.sin(angles)], axis=1)


def _cross(arm: float = 0.36) -> np.ndarray:
    end = np.sqrt(1 - arm**2)
    quarter = np.array([[end, -arm], [end, arm], [arm, arm]])
    turn = np.array([[0.0, -1.0], [1.0, 0.0]])
    return np.concatenate([quarter @ np.linalg.matrix_power(turn, k).T for k in range(4)])


def _star(inner: float = 0.48) -> np.ndarray:
    points = _regular(10)
    points[1::2] *= inner
    return points


def _crescent(offset: float = 0.45, radius: float = 0.72) -> np.ndarray:
    """The unit circle less a smaller one to its right."""
    x = (1 + offset**2 - radius**2) / (2 * offset)  # where the two circles cross
    y = np.sqrt(1 - x**2)
    start, bite = np.arctan2(y, x), np.arctan2(y, x - offset)
    arc, back = np.linspace(start, 2 * np.pi - start, 30), np.linspace(2 * np.pi - bite, bite, 20)
    outer = np.stack([np.cos(arc), np.sin(arc)], axis=1)
    inner = radius * np.stack([np.cos(back), np.sin(back)], axis=1) + (offset, 0)
    return np.concatenate([outer, inner])


# Contours of each outline in the unit circle, filled by the even-odd rule: a second one is a hole.
OUTLINES: dict[str, tuple[np.ndarray, ...]] = {
    "disc": (_regular(40, 0.92),),
    "square": (_regular(4) @ np.array([[1.0, 1.0], [-1.0, 1.0]]) / np.sqrt(2),),
    "triangle": (_regular(3),),
    "star": (_star(),),
    "ring": (_regular(40), _regular(40, 0.45)),
    "cross": (_cross(),),
    "hexagon": (_regular(6),),
    "crescent": (_crescent(),),
}


def fill(contours: tuple[np.ndarray, ...], matrix: np.ndarray, centre, size: int) -> np.ndarray:
    """Return the coverage of an outline, (size, size) float32 in [0, 1], with soft edges.

    Args:
        contours: polygons (N, 2) in the unit circle.
        matrix: (2, 2) map from the unit circle to pixels.
        centre: (x, y) in pixels.
        size: side of the square image.
    """
    # Four times finer and averaged: OpenCV's own edge smoothing makes shapes half a pixel larger.
    finer, bits = 4, 4
    points = [(c @ matrix.T + centre) * finer - 0.5 for c in contours]
    canvas = np.zeros((finer * size, finer * size), np.uint8)
    cv2.fillPoly(canvas, [np.rint(p * (1 << bits)).astype(np.int32) for p in points], 255, 8, bits)
    cover = cv2.resize(canvas, (size, size), interpolation=cv2.INTER_AREA)
    return cover.astype(np.float32) / 255


def smooth_noise(rng: np.random.Generator, shape: tuple[int, int], cell: float) -> np.ndarray:
    """Return noise of about `cell` pixels' grain, float32, mean 0, standard deviation near 0.7."""
    height, width = shape
    grid = (max(2, int(np.ceil(height / cell))) + 1, max(2, int(np.ceil(width / cell))) + 1)
    coarse = rng.standard_normal(grid, dtype=np.float32)
    return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)


def texture(
    kind: str, x: np.ndarray, y: np.ndarray, period: float, rng: np.random.Generator
) -> np.ndarray:
    """Return a texture's weight between its two colors, float32 in [0, 1], of x's shape.

    Args:
        kind: as named in `THINGS`.
        x, y: (H, W) pixel coordinates, already rotated; the phase is drawn here.
        period: length of one repeat in pixels.
        rng: source of the phase and of the blotches.
    """
    phase = rng.uniform(0, 2 * np.pi, 2).astype(np.float32)
    turn = np.float32(2 * np.pi / period)
    if kind == "plain":
        wave = 0.15 * smooth_noise(rng, x.shape, 2 * period)
    elif kind == "blotches":
        wave = 1.6 * smooth_noise(rng, x.shape, 0.55 * period)
    elif kind == "rings":
        far = np.hypot(x - x.mean(), y - y.mean())
        wave = np.sin(far * turn + phase[0])
    elif kind == "waves":
        wave = np.sin(x * turn + phase[0] + 1.8 * np.sin(y * (turn / 2) + phase[1]))
    else:
        one, two = np.sin(x * turn + phase[0]), np.sin(y * turn + phase[1])
        wave = {
            "stripes": one,
            "checks": 2.0 * one * two,
            "dots": one + two - 0.55,
            "net": 1.6 * np.maximum(one, two) - 1.1,
        }[kind]
    return np.clip(0.5 + 1.2 * wave, 0, 1, dtype=np.float32)
