"""Pictures of which patches a teacher finds alike."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mimseg.analysis.measure import QUERIES
from mimseg.files import replacing

COLOR = "#ff3355"
CELL = 1.7  # inches
LINE = 22  # characters of a name in one line


@dataclass
class Column:
    """One teacher's part of a sheet.

    Args:
        name: the teacher's.
        diversity: the image's.
        maps: (queries, h, w) cosine similarity.
    """

    name: str
    diversity: float
    maps: np.ndarray


def draw_sheet(path: Path, title: str, image: np.ndarray, columns: Sequence[Column]) -> None:
    """Write a PNG: a row for each query patch, the image and then a column for each teacher.

    Colours run from a similarity of 0 or less to 1, the same for all, so that a teacher whose
    tokens are all alike shows one colour.

    Args:
        image: (H, W, 3) uint8 RGB.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.patches import Rectangle

    rows, count = len(QUERIES), 1 + len(columns)
    figure = Figure(figsize=(CELL * count + 0.7, CELL * rows + 0.9), layout="constrained")
    canvas = FigureCanvasAgg(figure)
    axes = figure.subplots(rows, count, squeeze=False)
    drawn = None
    for row, (y, x) in enumerate(QUERIES):
        axes[row, 0].imshow(image)
        height, width = image.shape[:2]
        axes[row, 0].plot(x * width, y * height, "o", mfc="none", mec="white", ms=11, mew=3.5)
        axes[row, 0].plot(x * width, y * height, "o", mfc="none", mec=COLOR, ms=11, mew=2)
        for axis, column in zip(axes[row, 1:], columns, strict=True):
            drawn = axis.imshow(column.maps[row], vmin=0, vmax=1, cmap="viridis")
            h, w = column.maps.shape[1:]
            corner = (int(x * w) - 0.5, int(y * h) - 0.5)
            axis.add_patch(Rectangle(corner, 1, 1, fill=False, ec=COLOR, lw=1.6))
    for axis in axes.flat:
        axis.set_xticks([])
        axis.set_yticks([])
        axis.spines[:].set_visible(False)
    axes[0, 0].set_title("query patches", fontsize=9)
    for axis, column in zip(axes[0, 1:], columns, strict=True):
        name = textwrap.fill(column.name.replace("_", " "), LINE)
        axis.set_title(f"{name}\ndiversity {column.diversity:.3f}", fontsize=9)
    if drawn is not None:
        bar = figure.colorbar(drawn, ax=axes, shrink=0.6, aspect=30, pad=0.01)
        bar.set_label("cosine similarity to the query, raw tokens", fontsize=8)
        bar.ax.tick_params(labelsize=8)
    figure.suptitle(title, fontsize=10, x=0.01, ha="left")
    with replacing(path) as temporary:
        canvas.print_png(temporary)
