"""Checks mmseg's pairs of image and label map folders.

The maps alone tell whether their classes are numbered from 0 or from 1.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np
from PIL import Image

from mimseg.data.checks.folder import require_path, spread, walk_files
from mimseg.errors import UserError

MAPS_READ = 50  # label maps opened, spread over the set
MORE_READ = 200  # and so many more, where those look as if numbered otherwise
SHOWN = 5
IGNORED = 255
# Of these names, if the classes have them, one side lies above the other in upright photographs.
ABOVE, BELOW = ("sky", "ceiling"), ("floor", "road")
VOTES = 5  # maps with something of both sides that it takes to judge
MOST = 0.8  # share of them that has to agree
PART = 0.005  # share of a map's pixels that counts as something
SIDE = 300  # pixels: larger maps are thinned out to find what lies where


def check_label_maps(data) -> LabelSurvey:
    """Check an mmseg data set: each image has its map, sampled maps only known labels, in order.

    Args:
        data: the data set's `DatasetConfig`.

    Returns:
        The survey of the maps that were read; none are, where the classes are not known.
    """
    names = _names(data)
    key, folder = data.prefix("seg_map_path")
    require_path(key, folder)
    suffix = data.get("seg_map_suffix", ".png")
    present = set(walk_files(folder, suffix))
    missing = [name + suffix for name in names if name + suffix not in present]
    if missing:
        raise UserError(
            key,
            folder,
            expected=f"a label map for each of {len(names)} images; {len(missing)} have none, "
            f"the first {missing[0]!r}",
            fix="add the maps, remove those images, or set seg_map_suffix",
        )
    known, defaults = data.classes, data.class_defaults
    # With classes of one's own chosen from the class's, mmseg maps the files' labels to them.
    files_classes = defaults if defaults and set(known) <= set(defaults) else known
    survey = LabelSurvey(
        files_classes,
        bool(data.get("reduce_zero_label", False)),
        data.default("reduce_zero_label", False) is True,
    )
    if not known:
        return survey
    first = spread(names, MAPS_READ)
    for name in first:
        _add(survey, data, os.path.join(folder, name + suffix))
    for name in spread(sorted(set(names) - set(first)), MORE_READ):
        if not survey.looks_subtracted:
            break
        _add(survey, data, os.path.join(folder, name + suffix))
    if problem := survey.misnumbered():
        raise UserError(
            f"{data.key}.reduce_zero_label",
            survey.reduce,
            expected=f"label maps with classes from {survey.first}; those in {folder} are "
            "numbered from "
            f"{1 - survey.first}: {problem}",
            fix=f"take maps whose classes begin at {survey.first}, or set "
            f"reduce_zero_label={not survey.reduce} on the data set and on each LoadAnnotations",
        )
    return survey


def _names(data) -> list[str]:
    """Return the images' names without suffix, from the list file or else from the folder."""
    key, folder = data.prefix("img_path")
    suffix = data.get("img_suffix", ".jpg")
    require_path(key, folder)
    if data.ann_file and not os.path.isdir(data.ann_file):
        require_path(f"{data.key}.ann_file", data.ann_file, kind="file")
        with open(data.ann_file) as lines:
            names = [line.strip() for line in lines if line.strip()]
        missing = [n for n in names if not os.path.isfile(os.path.join(folder, n + suffix))]
        if missing:
            raise UserError(
                f"{data.key}.ann_file",
                data.ann_file,
                expected=f"names of images in {folder}; {len(missing)} of {len(names)} are not "
                "there, "
                f"the first {missing[0] + suffix!r}",
                fix=f"correct the list, {key} or img_suffix",
            )
    else:
        names = [name[: -len(suffix)] for name in walk_files(folder, suffix)]
    if not names:
        raise UserError(
            key, folder, expected=f"a folder with {suffix} images", fix="fill it, or set img_suffix"
        )
    return sorted(names)


def _add(survey: LabelSurvey, data, path: str) -> None:
    """Read a map into the survey."""
    try:
        with Image.open(path) as opened:
            labels = np.array(opened)
    except (OSError, SyntaxError, ValueError) as error:
        raise UserError(
            f"{data.key}.data_prefix.seg_map_path",
            path,
            expected=f"a label map that opens ({error})",
        ) from error
    if labels.ndim != 2:
        raise UserError(
            f"{data.key}.data_prefix.seg_map_path",
            path,
            expected=f"one channel of labels, not the shape {labels.shape}",
            fix="write the maps as 8-bit grayscale or palette PNGs of class numbers",
        )
    values = survey.add(labels)
    ignored = {int(data.get("ignore_index", 255)), 255}
    wrong = sorted(value for value in values if value > survey.last and value not in ignored)
    if wrong:
        few = ", ".join(str(v) for v in wrong[:SHOWN])
        meaning = "0 is ignored, classes from 1" if survey.reduce else "classes from 0"
        raise UserError(
            f"{data.key}.metainfo.classes",
            f"{len(survey.classes)} classes",
            expected=f"labels 0 to {survey.last} or 255 in the maps ({meaning}); {path} has {few}",
            fix="name all classes, correct the maps, or set reduce_zero_label rightly",
        )


class LabelSurvey:
    """The labels seen in some maps of a data set, and what they say about their numbering.

    Nothing in an 8-bit map says what 0 means, and a config that takes it wrongly trains: each class
    stands for its neighbor, and the first, or "other", is lost. Two things give it away.
    "Other" is 255 where maps were made by taking 1 from 8-bit labels (0 - 1 = 255). And sky or
    ceiling lies above floor or road under one numbering and below it under the other.

    Args:
        classes: the names that the files' labels stand for, in their order.
        reduce: whether 0 is taken for "other" and classes begin at 1 (mmseg's reduce_zero_label).
        released: whether that is how the data set is released, so that no 255 belongs in it.
    """

    def __init__(self, classes: Sequence[str], reduce: bool, released: bool = False) -> None:
        self.classes = [name.strip() for name in classes]
        self.reduce, self.released = reduce, released
        self.read = 0
        self.seen: set[int] = set()
        self._votes = {0: [0, 0], 1: [0, 0]}  # first class's number -> maps [upright, asked]

    @property
    def first(self) -> int:
        """The first class's label, as the config takes it."""
        return int(self.reduce)

    @property
    def last(self) -> int:
        """The last class's label, as the config takes it."""
        return len(self.classes) - 1 + self.first

    def add(self, labels: np.ndarray) -> set[int]:
        """Take in a map, (H, W) integers; return its labels."""
        if labels.dtype == np.uint8:
            values = set(np.flatnonzero(np.bincount(labels.ravel(), minlength=256)).tolist())
        else:
            values = set(np.unique(labels).tolist())
        self.seen |= values
        self.read += 1
        thin = labels[:: -(-labels.shape[0] // SIDE), :: -(-labels.shape[1] // SIDE)]
        for first, votes in self._votes.items():
            above = self._height(thin, ABOVE, first, values)
            below = self._height(thin, BELOW, first, values)
            if above is not None and below is not None:
                votes[0] += above < below
                votes[1] += 1
        return values

    def _height(
        self, labels: np.ndarray, names: Sequence[str], first: int, values: set[int]
    ) -> float | None:
        """Return the mean row of the named classes, or None where there is too little of them."""
        numbers = {self.classes.index(name) + first for name in names if name in self.classes}
        numbers &= values
        if not numbers:
            return None
        rows = np.isin(labels, list(numbers)).sum(1)
        if rows.sum() < PART * labels.size:
            return None
        return float((rows * np.arange(len(rows))).sum() / rows.sum())

    @property
    def looks_subtracted(self) -> bool:
        """Whether 255 stands for "other" in the maps read, though the config says that 0 does.

        Data of one's own may ignore both 0 and 255: there it also takes the last but one class's
        label to be present, while the last's is not.
        """
        if not self.reduce or IGNORED not in self.seen or self.last in self.seen:
            return False
        return self.released or {0, self.last - 1} <= self.seen

    def misnumbered(self) -> str:
        """Return what shows that the classes begin at the other of 0 and 1, or ""."""
        if self.looks_subtracted:
            highest = max(self.seen - {IGNORED}, default=0)
            return (
                f"{self.read} maps hold labels to {highest} and 255, never {self.last}, as after "
                f"'label - 1' ({self.classes[0]!r} would be ignored, all else moved by one)"
            )
        upright, asked = self._votes[self.first]
        upright_else, asked_else = self._votes[1 - self.first]
        enough = min(asked, asked_else) >= VOTES
        if enough and upright <= (1 - MOST) * asked and upright_else >= MOST * asked_else:
            above, below = (
                "/".join(name for name in names if name in self.classes) for names in (ABOVE, BELOW)
            )
            return (
                f"by the config's numbers {above} lies below {below} in {asked - upright} of "
                f"{asked} maps, by the other in {asked_else - upright_else} of {asked_else}"
            )
        return ""
