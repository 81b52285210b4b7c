"""Checks of mmseg's pairs of image and label map folders."""

from __future__ import annotations

import os

import numpy as np
from PIL import Image

from mimseg.data.checks.folder import require_path, spread, walk_files
from mimseg.data.checks.label_survey import LabelSurvey
from mimseg.errors import UserError

MAPS_READ = 50  # label maps opened, spread over the set
MORE_READ = 200  # and so many more, where those look as if numbered otherwise
SHOWN = 5


def check_label_maps(data) -> LabelSurvey:
    """Check an mmseg data set: each image has its map, sampled maps only known labels, in order.

    Args:
        data: the data set's `DatasetConfig`.

    Returns:
        what was found in the maps that were read; none are, where the classes are not known.
    """
    names = _names(data)
    key, folder = data.prefix("seg_map_path")
    require_path(key, folder)
    suffix = data.get("seg_map_suffix", ".png")
    there = set(walk_files(folder, suffix))
    missing = [name + suffix for name in names if name + suffix not in there]
    if missing:
        raise UserError(
            key,
            folder,
            expected=f"a label map for each of {len(names)} images; {len(missing)} have none, "
            f"the first {missing[0]!r}",
            fix="add the maps, remove those images, or set seg_map_suffix",
        )
    known, own = data.classes, data.own_classes
    # With classes of one's own chosen from the class's, mmseg maps the files' labels to them.
    files_classes = own if own and set(known) <= set(own) else known
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
            fix="write the maps as 8-bit greyscale or palette PNGs of class numbers",
        )
    found = survey.add(labels)
    ignored = {int(data.get("ignore_index", 255)), 255}
    wrong = sorted(value for value in found if value > survey.last and value not in ignored)
    if wrong:
        told = ", ".join(str(v) for v in wrong[:SHOWN])
        meaning = "0 is ignored, classes from 1" if survey.reduce else "classes from 0"
        raise UserError(
            f"{data.key}.metainfo.classes",
            f"{len(survey.classes)} classes",
            expected=f"labels 0 to {survey.last} or 255 in the maps ({meaning}); {path} has {told}",
            fix="name all classes, correct the maps, or set reduce_zero_label rightly",
        )
