"""What generated scenes are made of: outlines, textures, smooth noise and the table of classes.

Outlines are polygons inside the unit circle. Textures map pixel coordinates to [0, 1], with soft
steps so that they do not alias. Neither knows about colour: colours are drawn at random and tell
nothing about the class.
"""

from __future__ import annotations

import cv2
import numpy as np

# name -> (outline, texture). Every outline and every texture serves two classes, so neither of
# them alone names a class: the two must be seen together.
THINGS: dict[str, tuple[str, str]] = {
    "striped disc": ("disc", "stripes"),
    "dotted disc": ("disc", "dots"),
    "checked cross": ("cross", "checks"),
    "striped cross": ("cross", "stripes"),
    "dotted triangle": ("triangle", "dots"),
    "blotched triangle": ("triangle", "blotches"),
    "blotched ring": ("ring", "blotches"),
    "checked ring": ("ring", "checks"),
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


# Contours of each outline in the unit circle, filled by the even-odd rule: a second one is a hole.
OUTLINES: dict[str, tuple[np.ndarray, ...]] = {
    "disc": (_regular(40, 0.92),),
    "cross": (_cross(),),
    "triangle": (_regular(3),),
    "ring": (_regular(40), _regular(40, 0.45)),
}


def fill(contours: tuple[np.ndarray, ...], matrix: np.ndarray, centre, size: int) -> np.ndarray:
    """Return the coverage of an outline, (size, size) float32 in [0, 1], with soft edges.

    Args:
        contours: polygons (N, 2) in the unit circle.
        matrix: (2, 2) map from the unit circle to pixels.
        centre: (x, y) in pixels.
        size: side of the square image.
    """
    bits = 4
    points = [np.rint((c @ matrix.T + centre) * (1 << bits)).astype(np.int32) for c in contours]
    canvas = np.zeros((size, size), np.uint8)
    cv2.fillPoly(canvas, points, 255, lineType=cv2.LINE_AA, shift=bits)
    return canvas.astype(np.float32) / 255


def smooth_noise(rng: np.random.Generator, shape: tuple[int, int], cell: float) -> np.ndarray:
    """Return noise of about `cell` pixels' grain, float32, mean 0, standard deviation near 0.7."""
    height, width = shape
    grid = (max(2, int(np.ceil(height / cell))) + 1, max(2, int(np.ceil(width / cell))) + 1)
    coarse = rng.standard_normal(grid, dtype=np.float32)
    return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)


def texture(
    kind: str, x: np.ndarray, y: np.ndarray, period: float, rng: np.random.Generator
) -> np.ndarray:
    """Return a texture's weight between its two colours, float32 in [0, 1], of x's shape.

    Args:
        kind: stripes, checks, dots or blotches.
        x, y: (H, W) pixel coordinates, already rotated; the phase is drawn here.
        period: length of one repeat in pixels.
        rng: source of the phase and of the blotches.
    """
    phase = rng.uniform(0, 2 * np.pi, 2).astype(np.float32)
    if kind == "blotches":
        wave = 1.6 * smooth_noise(rng, x.shape, 0.55 * period)
    else:
        wave = np.sin(x * np.float32(2 * np.pi / period) + phase[0])
        if kind in ("checks", "dots"):
            other = np.sin(y * np.float32(2 * np.pi / period) + phase[1])
            wave = 2.0 * wave * other if kind == "checks" else wave + other - 0.55
        elif kind != "stripes":
            raise ValueError(f"unknown texture {kind!r}")
    return np.clip(0.5 + 1.2 * wave, 0, 1, dtype=np.float32)
