"""What a measurement of token diversity leaves in its folder, and what a second one does there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from mimseg.analysis.measure import Measured
from mimseg.errors import UserError
from mimseg.files import read_json, replacing, write_json

NAME = "token_diversity.json"
DEFINITION = (
    "1 - mean cosine similarity of two different patch tokens of an image, CLS left out; mean and "
    "standard deviation over images. The definition is mimseg's own."
)


class DiversityResults:
    """Results in OUT, teacher by teacher: `token_diversity.json` and `maps/NAME.npz`.

    A teacher is written when it is measured, so a killed run loses one teacher at most. One that
    was measured before with the same settings is kept.

    Args:
        out: the folder; made when something is written.
        settings: what holds for all teachers: images, size, seed.
        force: forget what does not fit instead of raising, and keep nothing.

    Raises:
        UserError: the folder holds something else, or results with other settings.
    """

    def __init__(self, out: Path, settings: dict[str, Any], force: bool = False) -> None:
        self.out, self.settings = out, _plain(settings)
        self.force, self.teachers = force, {}
        self._stale: list[Path] = []
        if out.exists() and not out.is_dir():
            raise UserError("--out", str(out), expected="a folder")
        found = read_json(out / NAME)
        if not isinstance(found, dict) or not {"settings", "teachers"} <= found.keys():
            self._expect_free()
        elif found["settings"] == self.settings:
            self.teachers = found["teachers"]
        elif force:
            self._stale = [*out.glob("maps/*.npz"), *out.glob("similarity_*.png")]
        else:
            before = found["settings"]
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
        """Whether this teacher is to be kept as it was measured before.

        Raises:
            UserError: another teacher of that name was.
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

    def add(self, name: str, config: dict, found: Measured, facts: dict[str, Any]) -> None:
        """Write a teacher's results."""
        while self._stale:
            self._stale.pop().unlink(missing_ok=True)
        path = self._maps(name)
        maps = np.asarray(found.maps, np.float32)
        with replacing(path) as temporary, open(temporary, "wb") as file:
            np.savez(file, shown=np.asarray(found.shown, int), maps=maps, own=found.own.numpy())
        values = {"raw": found.raw.double(), "layer_norm": found.layer_norm.double()}
        self.teachers[name] = {
            "config": _plain(config),
            "diversity": {
                kind: {"mean": value.mean().item(), "std": value.std(correction=0).item()}
                for kind, value in values.items()
            },
            "images": len(found.raw),
            "width": found.width,
            "grid": list(found.grid),
            **facts,
        }
        ranked = {name: self.teachers[name] for name in self.ranking()}
        told = {"definition": DEFINITION, "settings": self.settings, "teachers": ranked}
        write_json(self.out / NAME, told)

    def ranking(self) -> list[str]:
        """The teachers' names, most diverse first, by the raw mean."""
        means = {name: t["diversity"]["raw"]["mean"] for name, t in self.teachers.items()}
        return sorted(means, key=lambda name: -means[name])

    def maps(self, name: str, shown: int) -> tuple[np.ndarray, float] | None:
        """An image's maps (queries, h, w) and diversity, or None where it did not open."""
        with np.load(self._maps(name)) as found:
            at = np.flatnonzero(found["shown"] == shown)
            return (found["maps"][at[0]], float(found["own"][at[0]])) if len(at) else None

    def table(self) -> str:
        """The ranking as text."""
        rows = [("", "teacher", "raw", "after LN", "width", "grid", "parameters", "images")]
        for number, name in enumerate(self.ranking(), 1):
            t = self.teachers[name]
            told = [f"{v['mean']:.3f} ± {v['std']:.3f}" for v in t["diversity"].values()]
            grid, size = "x".join(map(str, t["grid"])), f"{t['parameters'] / 1e6:.1f} M"
            rows.append((f"{number}", name, *told, f"{t['width']}", grid, size, f"{t['images']}"))
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
    """As it is read back from JSON: tuples as lists, paths as text."""
    return json.loads(json.dumps(value, default=str))
