"""Draws generated scenes: textured objects before a textured background, with their labels.

The scenes are made so that a learned representation pays: colors carry no class information, a
class is an outline together with a texture, and objects occlude one another under uneven light,
shadows, blur and sensor noise.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np

from mimseg.data.scenes.parts import OUTLINES, STUFF, THINGS, fill, smooth_noise, texture

IGNORE = 0  # in the label maps, as in ADE20K's files: 0 is ignored, classes start at 1
THING_LIST = tuple(THINGS.values())


@dataclass(frozen=True)
class SceneConfig:
    """What a scene is like; pairs are the lower and upper end of a uniform draw.

    Attributes:
        size: side of the square image in pixels.
        objects: number of objects drawn.
        scale: an object's diameter as a fraction of the side.
        period: a texture's repeat in pixels of a 96 pixel image (it scales with `size`).
        stretch: ratio of the two axes of an object.
        tilt: rotation of outlines, and apart from them of textures, in degrees.
        contrast: distance between the two colors of an object's texture, of RGB in [0, 1].
        stuff_contrast: likewise of the two background textures.
        stuff_colour: saturation of the background's colors, against 1 of the objects'.
        clutter: number of small unlabeled specks and lines behind the objects.
        twigs: number of thin unlabeled lines before the objects.
        light: strength of the lighting gradient.
        shadow: darkness of the objects' cast shadows.
        blur: standard deviation of the Gaussian blur in pixels.
        noise: standard deviation of the sensor noise, of values in [0, 1].
        min_pixels: objects with fewer visible pixels are no instance, and ignored in the map.
    """

    size: int = 96
    objects: tuple[int, int] = (2, 5)
    scale: tuple[float, float] = (0.3, 0.55)
    period: tuple[float, float] = (6.5, 9.5)
    stretch: tuple[float, float] = (0.8, 1.25)
    tilt: tuple[float, float] = (-25, 25)
    contrast: tuple[float, float] = (0.45, 1.0)
    stuff_contrast: tuple[float, float] = (0.06, 0.25)
    stuff_colour: tuple[float, float] = (0.1, 0.4)
    clutter: tuple[int, int] = (4, 10)
    twigs: tuple[int, int] = (0, 3)
    light: tuple[float, float] = (0.1, 0.5)
    shadow: tuple[float, float] = (0.1, 0.6)
    blur: tuple[float, float] = (0.2, 0.8)
    noise: tuple[float, float] = (0.01, 0.03)
    min_pixels: int = 20


@dataclass(frozen=True)
class Scene:
    """One drawn scene.

    Attributes:
        image: (H, W, 3) uint8, RGB.
        labels: (H, W) uint8; 0 is ignored, 1 and 2 are the stuff classes, then the things.
        masks: (N, H, W) bool, the visible part of each object.
        categories: N thing numbers, counted from 1.
    """

    image: np.ndarray
    labels: np.ndarray
    masks: np.ndarray
    categories: tuple[int, ...]


@lru_cache(maxsize=4)
def _pixels(size: int) -> tuple[np.ndarray, np.ndarray]:
    axis = np.arange(size, dtype=np.float32) + 0.5
    x, y = np.meshgrid(axis, axis)
    return np.ascontiguousarray(x), np.ascontiguousarray(y)


def _colors(rng: np.random.Generator, contrast: float) -> np.ndarray:
    """Return two random colors (2, 3) about `contrast` apart."""
    first = rng.uniform(0.05, 0.95, 3)
    step = rng.standard_normal(3)
    step *= contrast / np.linalg.norm(step)
    # A step that would leave the cube turns round: clipping it would shrink the contrast.
    second = np.where((first + step < 0) | (first + step > 1), first - step, first + step)
    return np.stack([first, np.clip(second, 0, 1)]).astype(np.float32)


def _to_bytes(canvas: np.ndarray) -> np.ndarray:
    """Return the canvas (3, H, W) in [0, 1] as an image (H, W, 3) uint8."""
    values = np.rint(np.clip(canvas, 0, 1) * np.float32(255)).astype(np.uint8)
    return np.ascontiguousarray(values.transpose(1, 2, 0))


def _blend(weight: np.ndarray, colors: np.ndarray) -> np.ndarray:
    """Return (3, H, W): planes, because NumPy is slow where the last axis has only 3 entries."""
    return colors[0][:, None, None] + weight * (colors[1] - colors[0])[:, None, None]


def _background(config: SceneConfig, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return the canvas (3, H, W) float32 and its labels: cloud over gravel, a curve between."""
    size = config.size
    x, y = _pixels(size)
    colors = []
    for _ in STUFF:
        pair = _colors(rng, rng.uniform(*config.stuff_contrast))
        gray = pair.mean(axis=1, keepdims=True)
        colors.append(gray + np.float32(rng.uniform(*config.stuff_colour)) * (pair - gray))
    cloud = _blend(np.clip(0.5 + 0.4 * smooth_noise(rng, (size, size), size / 4), 0, 1), colors[0])
    grain = smooth_noise(rng, (size, size), 2.5 * size / 96)
    ground = _blend(np.clip(0.5 + 0.45 * grain, 0, 1), colors[1])
    height, tilt, bend = rng.uniform(0.2, 0.8), rng.uniform(-0.5, 0.5), rng.uniform(0.0, 0.08)
    wave = bend * np.sin(x[0] * (2 * np.pi * rng.uniform(0.5, 2) / size) + rng.uniform(0, 6))
    line = size * (height + wave) + tilt * (x[0] - size / 2)
    below = np.clip((y - line) / 2 + 0.5, 0, 1, dtype=np.float32)  # soft over two pixels
    labels = np.where(below > 0.5, 2, 1).astype(np.uint8)
    labels[(below > 0) & (below < 1)] = IGNORE
    return cloud + below * (ground - cloud), labels


def _specks(canvas: np.ndarray, count: int, rng: np.random.Generator, blobs: bool) -> np.ndarray:
    """Return the canvas with small random lines and, if asked, blobs drawn over it."""
    if not count:
        return canvas
    size = canvas.shape[1]
    drawn = _to_bytes(canvas)  # cv2 smooths edges only in uint8
    for _ in range(count):
        color = [int(c) for c in rng.integers(0, 256, 3)]
        start, reach = rng.uniform(0, size, 2), rng.uniform(0.03, 0.12, 2) * size
        if blobs and rng.random() < 0.6:
            spot, axes = tuple(np.rint(start).astype(int)), tuple(np.rint(reach / 2).astype(int))
            cv2.ellipse(drawn, spot, axes, rng.uniform(0, 180), 0, 360, color, -1, cv2.LINE_AA)
        else:
            angle, length = rng.uniform(0, 2 * np.pi), reach.sum() * (1 if blobs else 3)
            end = start + length * np.array([np.cos(angle), np.sin(angle)])
            points = [tuple(np.rint(p).astype(int)) for p in (start, end)]
            cv2.line(drawn, *points, color, 1, cv2.LINE_AA)
    return np.ascontiguousarray(drawn.transpose(2, 0, 1), np.float32) / 255


def _place(config: SceneConfig, rng: np.random.Generator, placed: list) -> tuple:
    """Return (x, y, radius) of a new object; of a few draws, the one least hidden or hiding."""
    size, best, room = config.size, None, -np.inf
    radius = size * rng.uniform(*config.scale) / 2
    for _ in range(6):
        x, y = rng.uniform(0.6 * radius, size - 0.6 * radius, 2)
        free = min((np.hypot(x - a, y - b) / (radius + r) for a, b, r in placed), default=9.0)
        if free > room:
            best, room = (x, y, radius), free
        if room > 0.75:
            break
    return best


def _paint(config: SceneConfig, rng: np.random.Generator, canvas: np.ndarray, thing: int, spot):
    """Draw object number `thing` with its shadow into the canvas; return its mask (H, W)."""
    size = config.size
    outline, kind = THING_LIST[thing]
    x, y, radius = spot
    angle, stretch = np.radians(rng.uniform(*config.tilt)), np.sqrt(rng.uniform(*config.stretch))
    cos, sin = np.cos(angle), np.sin(angle)
    matrix = np.array([[cos, -sin], [sin, cos]]) * (radius * np.array([stretch, 1 / stretch]))
    cover = fill(OUTLINES[outline], matrix, (x, y), size)

    away, turn = rng.uniform(0.05, 0.2) * radius, rng.uniform(0, 2 * np.pi)
    shift = np.float32([[1, 0, away * np.cos(turn)], [0, 1, away * np.sin(turn)]])
    shade = cv2.GaussianBlur(cv2.warpAffine(cover, shift, (size, size)), (0, 0), 0.015 * size + 0.5)
    canvas *= 1 - np.float32(rng.uniform(*config.shadow)) * shade

    reach = radius * max(stretch, 1 / stretch) + 2
    rows = slice(max(0, int(y - reach)), min(size, int(y + reach) + 1))
    cols = slice(max(0, int(x - reach)), min(size, int(x + reach) + 1))
    px, py = (p[rows, cols] for p in _pixels(size))
    turn = np.radians(rng.uniform(*config.tilt))
    cos, sin = np.float32(np.cos(turn)), np.float32(np.sin(turn))
    period = rng.uniform(*config.period) * size / 96
    weight = texture(kind, cos * px + sin * py, cos * py - sin * px, period, rng)
    color = _blend(weight, _colors(rng, rng.uniform(*config.contrast)))
    turn, strength = rng.uniform(0, 2 * np.pi), rng.uniform(0, 0.35) / radius
    ramp = (px - x) * np.float32(np.cos(turn)) + (py - y) * np.float32(np.sin(turn))
    color *= 1 + np.float32(strength) * ramp
    window = canvas[:, rows, cols]
    window += cover[rows, cols] * (color - window)
    return cover > 0.5


def draw_scene(config: SceneConfig, rng: np.random.Generator) -> Scene:
    """Draw one scene; everything random in it comes from `rng`."""
    size = config.size
    canvas, labels = _background(config, rng)
    canvas = _specks(canvas, int(rng.integers(config.clutter[0], config.clutter[1] + 1)), rng, True)

    owner = np.full((size, size), -1, np.int16)  # the object seen at each pixel
    things, placed = [], []
    for index in range(int(rng.integers(config.objects[0], config.objects[1] + 1))):
        things.append(int(rng.integers(len(THING_LIST))))
        placed.append(_place(config, rng, placed))
        owner[_paint(config, rng, canvas, things[-1], placed[-1])] = index
    canvas = _specks(canvas, int(rng.integers(config.twigs[0], config.twigs[1] + 1)), rng, False)

    x, y = _pixels(size)
    turn, strength = rng.uniform(0, 2 * np.pi), rng.uniform(*config.light)
    ramp = (x / size - 0.5) * np.float32(np.cos(turn)) + (y / size - 0.5) * np.float32(np.sin(turn))
    canvas *= np.float32(rng.uniform(0.8, 1.15)) + np.float32(strength) * ramp
    sigma = max(0.05, rng.uniform(*config.blur))
    canvas = np.stack([cv2.GaussianBlur(plane, (0, 0), sigma) for plane in canvas])
    sensor = rng.standard_normal(canvas.shape, dtype=np.float32)
    canvas += np.float32(rng.uniform(*config.noise)) * sensor
    image = _to_bytes(canvas)

    masks, categories = [], []
    for index, thing in enumerate(things):
        visible = owner == index
        if np.count_nonzero(visible) < config.min_pixels:
            labels[visible] = IGNORE
            continue
        labels[visible] = 1 + len(STUFF) + thing
        masks.append(visible)
        categories.append(thing + 1)
    stacked = np.stack(masks) if masks else np.zeros((0, size, size), bool)
    return Scene(image, labels, stacked, tuple(categories))
