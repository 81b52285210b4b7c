"""Writes and reads the results of token diversity: numbers, maps, a table and pictures."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mimseg.analysis.token_diversity import QUERIES, Measurement
from mimseg.errors import UserError
from mimseg.files import read_json, replacing, write_json

NAME = "token_diversity.json"
DEFINITION = (
    "1 - mean cosine similarity of two different patch tokens of an image, CLS left out; mean and "
    "standard deviation over images. The definition is mimseg's own."
)
COLOR = "#ff3355"
CELL = 1.7  # inches
LINE = 22  # characters of a name in one line


class DiversityResults:
    """Results in OUT, teacher by teacher: `token_diversity.json` and `maps/NAME.npz`.

    A teacher is written as soon as it is measured, so a killed run loses one teacher at most. One
    that was measured before with the same settings is kept.

    Args:
        out: the folder; made when something is written.
        settings: those of all teachers: images, size, seed.
        force: replace results with other settings instead of raising, and keep none.

    Raises:
        UserError: the folder holds something else, or results with other settings.
    """

    def __init__(self, out: Path, settings: dict[str, Any], force: bool = False) -> None:
        self.out, self.settings = out, _plain(settings)
        self.force, self.teachers = force, {}
        self._stale: list[Path] = []
        if out.exists() and not out.is_dir():
            raise UserError("--out", str(out), expected="a folder")
        content = read_json(out / NAME)
        if not isinstance(content, dict) or not {"settings", "teachers"} <= content.keys():
            self._expect_free()
        elif content["settings"] == self.settings:
            self.teachers = content["teachers"]
        elif force:
            self._stale = [*out.glob("maps/*.npz"), *out.glob("similarity_*.png")]
        else:
            before = content["settings"]
            key = next((k for k in self.settings if before.get(k) != self.settings[k]), "settings")
            raise UserError(
                "--out",
                str(out),
                expected=f"results with {key} = {self.settings.get(key)!r}; there it is "
                f"{before.get(key)!r}",
                fix="choose another folder, or replace all of them with --force",
            )

    def _expect_free(self) -> None:
        # A run that was killed before its first teacher was whole leaves maps/ alone.
        if self.out.is_dir() and any(path.name != "maps" for path in self.out.iterdir()):
            raise UserError(
                "--out",
                str(self.out),
                expected=f"a new or empty folder, or one with {NAME} of an earlier run",
                fix="choose another folder",
            )

    def has(self, name: str, config: dict) -> bool:
        """Whether this teacher has results to keep.

        Raises:
            UserError: the results are those of another teacher with that name.
        """
        if self.force or name not in self.teachers:
            return False
        if self.teachers[name]["config"] != _plain(config):
            raise UserError(
                f"teachers.{name}",
                config,
                expected=f"the config it was measured with: {self.teachers[name]['config']}",
                fix="give it another name, or measure all again with --force",
            )
        return self._maps(name).is_file()

    def add(self, name: str, config: dict, measurement: Measurement, facts: dict[str, Any]) -> None:
        """Write a teacher's results."""
        while self._stale:
            self._stale.pop().unlink(missing_ok=True)
        path = self._maps(name)
        maps = np.asarray(measurement.maps, np.float32)
        with replacing(path) as temporary, open(temporary, "wb") as file:
            np.savez(
                file,
                shown=np.asarray(measurement.shown, int),
                maps=maps,
                own=measurement.own.numpy(),
            )
        values = {"raw": measurement.raw.double(), "layer_norm": measurement.layer_norm.double()}
        self.teachers[name] = {
            "config": _plain(config),
            "diversity": {
                kind: {"mean": value.mean().item(), "std": value.std(correction=0).item()}
                for kind, value in values.items()
            },
            "images": len(measurement.raw),
            "width": measurement.width,
            "grid": list(measurement.grid),
            **facts,
        }
        ranked = {name: self.teachers[name] for name in self.ranking()}
        content = {"definition": DEFINITION, "settings": self.settings, "teachers": ranked}
        write_json(self.out / NAME, content)

    def ranking(self) -> list[str]:
        """The teachers' names, most diverse first, by the raw mean."""
        means = {name: t["diversity"]["raw"]["mean"] for name, t in self.teachers.items()}
        return sorted(means, key=lambda name: -means[name])

    def maps(self, name: str, shown: int) -> tuple[np.ndarray, float] | None:
        """An image's maps (queries, h, w) and diversity, or None where it did not open."""
        with np.load(self._maps(name)) as arrays:
            at = np.flatnonzero(arrays["shown"] == shown)
            return (arrays["maps"][at[0]], float(arrays["own"][at[0]])) if len(at) else None

    def table(self) -> str:
        """The ranking as text."""
        rows = [("", "teacher", "raw", "after LN", "width", "grid", "parameters", "images")]
        for number, name in enumerate(self.ranking(), 1):
            t = self.teachers[name]
            diversity = [f"{v['mean']:.3f} ± {v['std']:.3f}" for v in t["diversity"].values()]
            grid, size = "x".join(map(str, t["grid"])), f"{t['parameters'] / 1e6:.1f} M"
            rows.append(
                (f"{number}", name, *diversity, f"{t['width']}", grid, size, f"{t['images']}")
            )
        wide = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
        lines = []
        for row in rows:
            cells = [cell.rjust(width) for cell, width in zip(row, wide, strict=True)]
            cells[1] = row[1].ljust(wide[1])
            lines.append("  ".join(cells))
        return "\n".join(lines)

    def _maps(self, name: str) -> Path:
        return self.out / "maps" / f"{name}.npz"


def _plain(value: Any) -> Any:
    """The value as JSON gives it back: tuples as lists, paths as text."""
    return json.loads(json.dumps(value, default=str))


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

    Colors run from a similarity of 0 or less to 1, the same for all, so that a teacher whose
    tokens are all alike shows one color.

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
