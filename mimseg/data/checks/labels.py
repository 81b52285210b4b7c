"""Checks mmseg's pairs of image and label map folders.

The maps alone tell whether their classes are numbered from 0 or from 1.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence

import numpy as np
from mmengine.logging import print_log
from PIL import Image

from mimseg.data.checks.folder import IMAGE_SUFFIXES, require_path, spread, walk_files
from mimseg.data.loading import sizes
from mimseg.errors import UserError

MAPS_READ = 50  # label maps opened, spread over the set
MORE_READ = 200  # and so many more, where those look wrong; a set of no more is read whole
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

    What is surely wrong is an error; what probably is, a warning in the log.

    Args:
        data: the data set's `DatasetConfig`.

    Returns:
        The survey of the maps that were read; none are, where the classes are not known.

    Raises:
        UserError: a missing or unreadable map, one of another size than its image, labels that the
            classes lack, classes numbered otherwise than the config says, or maps in which fewer
            than two classes are ever to be told apart.
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
    images, turns = data.prefix("img_path")[1], _turned_when_read(data)
    first = names if len(names) <= MAPS_READ + MORE_READ else spread(names, MAPS_READ)
    turned = 0
    for number, name in enumerate([*first, *spread(sorted(set(names) - set(first)), MORE_READ)]):
        if number >= len(first) and not (survey.looks_subtracted or survey.looks_alike):
            break
        path = os.path.join(folder, name + suffix)
        size = _add(survey, data, path)
        image = os.path.join(images, name + data.get("img_suffix", ".jpg"))
        turned += _check_size(key, path, size, image, turns)
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
    _judge_classes(survey, data, folder, complete=survey.read == len(names))
    if turned:
        _warn(
            f"{turned} of {survey.read} images read in {images} have an EXIF orientation that "
            "turns them when they are read and leaves their size. Their label maps have to be of "
            "the upright image; where they are of the stored one, set "
            "color_type='color_ignore_orientation' on each LoadImageFromFile."
        )
    return survey


def _warn(text: str) -> None:
    print_log(text, "current", logging.WARNING)


def _judge_classes(survey: LabelSurvey, data, folder: str, complete: bool) -> None:
    """See that there is something to tell apart, and name the classes that never occur.

    Args:
        complete: whether all maps were read.
    """
    training = data.key.startswith("train")
    if survey.looks_alike:
        few = ", ".join(map(str, sorted(survey.seen)[:SHOWN]))
        ignored = [0] * survey.reduce + [IGNORED] * (IGNORED in survey.seen)
        verb = "are" if len(ignored) > 1 else "is"
        why = f"; {' and '.join(map(str, ignored))} {verb} ignored" if ignored else ""
        text = (
            f"label maps with two or more of {len(survey.classes)} classes; {survey.read} read in "
            f"{folder} hold the labels {few} alone{why}, so there is nothing to tell apart"
        )
        fix = "write each pixel's class number into the maps"
        if survey.seen == {0, IGNORED}:
            fix = "write the object as 1 (map // 255) instead of 255"
        if survey.reduce and 0 in survey.seen:
            fix += "; reduce_zero_label=False on the data set and on each LoadAnnotations, if 0 is "
            fix += "a class"
        if complete and (training or not survey.counted):
            raise UserError(f"{data.key}.data_prefix.seg_map_path", folder, expected=text, fix=fix)
        _warn(f"{data.key}: expected {text}. Fix: {fix}")
    elif training and complete and (never := survey.never):
        shown = ", ".join(
            f"{survey.classes[n - survey.first]!r} (label {n})" for n in never[:SHOWN]
        )
        more = f" and {len(never) - SHOWN} more" * (len(never) > SHOWN)
        _warn(
            f"{len(never)} of {len(survey.classes)} classes occur in none of the {survey.read} "
            f"label maps in {folder}, and cannot be learned: {shown}{more}"
        )


def _turned_when_read(data) -> bool:
    """Whether the config's loader turns images upright by their EXIF orientation, as by default."""
    loads = [step for step in data.get("pipeline") or () if "LoadImage" in str(step.get("type"))]
    kinds = [str(step.get("color_type", "color")) for step in loads]
    return not any("ignore_orientation" in kind or kind == "unchanged" for kind in kinds)


def _check_size(key: str, path: str, size: tuple[int, int], image: str, turns: bool) -> bool:
    """Compare a map's (width, height) with its image's, which is turned when it is read, or not.

    Returns:
        Whether the image is turned and keeps its size, so that the size does not tell which of both
        the map is of.
    """
    try:
        stored, upright, orientation = sizes(image)
    except (OSError, SyntaxError, ValueError):
        return False  # a format that Pillow lacks; one that does not open is reported elsewhere
    upright = upright if turns else stored
    if size == upright:
        return turns and orientation in (2, 3, 4)
    fix = "resize the map with nearest-neighbor sampling, or take the right one"
    if size == stored:
        fix = (
            "the image has an EXIF orientation and is turned upright when it is read: turn the map "
            "as well, or set color_type='color_ignore_orientation' on each LoadImageFromFile"
        )
    raise UserError(
        key,
        path,
        expected=f"a map of its image's size, {upright[0]} x {upright[1]} pixels ({image}); it has "
        f"{size[0]} x {size[1]}",
        fix=fix,
    )


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
        files = list(walk_files(folder, (*IMAGE_SUFFIXES, suffix.lower())))
        alike = [name for name in files if name.lower().endswith(suffix.lower())]
        other = sorted(name for name in alike if not name.endswith(suffix))
        if other:
            raise UserError(
                f"{data.key}.img_suffix",
                suffix,
                expected=f"images that end in exactly {suffix!r}: {len(other)} of {len(alike)} in "
                f"{folder} would be left out, the first {other[0]!r}",
                fix=f"rename them to {suffix}",
            )
        left = len(files) - len(alike)
        if left and folder != data.prefix("seg_map_path")[1]:  # else the others are the maps
            _warn(f"{left} of {len(files)} images in {folder} do not end in {suffix}: not read")
        names = [name[: -len(suffix)] for name in alike]
    if not names:
        raise UserError(
            key, folder, expected=f"a folder with {suffix} images", fix="fill it, or set img_suffix"
        )
    return sorted(names)


def _add(survey: LabelSurvey, data, path: str) -> tuple[int, int]:
    """Read a map into the survey; returns its (width, height)."""
    try:
        with Image.open(path) as opened:
            labels = np.array(opened)
        labels = labels.astype(np.uint8) if labels.dtype == bool else labels  # of 1 bit
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
    return labels.shape[1], labels.shape[0]


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
    def counted(self) -> set[int]:
        """The labels that were seen and stand for a class."""
        return {label for label in self.seen if self.first <= label <= self.last}

    @property
    def never(self) -> list[int]:
        """The labels of classes that were not seen."""
        return sorted(set(range(self.first, self.last + 1)) - self.seen)

    @property
    def looks_alike(self) -> bool:
        """Whether fewer than two of several classes were seen: nothing is to be told apart."""
        return len(self.classes) > 1 and len(self.counted) < 2

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
