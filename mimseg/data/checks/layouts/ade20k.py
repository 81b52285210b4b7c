"""Checks ADE20K: images, and 8-bit label maps of 150 classes from 1, with 0 for other."""

from __future__ import annotations

import os

from mimseg.data.checks.config import DatasetConfig
from mimseg.data.checks.labels import check_label_maps
from mimseg.data.checks.report import Part, Report, scan_part
from mimseg.errors import UserError

ARCHIVE = "ADEChallengeData2016.zip"
COUNTS = {"training": 20_210, "validation": 2_000}
HOME = "data/ade/ADEChallengeData2016"
# Only the names that messages and LabelSurvey ask for: mmseg's list costs seconds to import.
_NAMES = {0: "wall", 2: "sky", 3: "floor", 5: "ceiling", 6: "road"}


class ADE20K:
    """Replaces mmseg's ADE20KDataset: its classes and the arguments that it defaults to."""

    METAINFO = {"classes": tuple(_NAMES.get(i, f"class {i}") for i in range(150))}

    def __init__(self, img_suffix=".jpg", seg_map_suffix=".png", reduce_zero_label=True):
        raise NotImplementedError


def fits(root: str) -> bool:
    """Whether there are images or maps for training."""
    return any(os.path.isdir(os.path.join(root, n, "training")) for n in ("images", "annotations"))


def report(root: str) -> Report:
    """Check both splits' images and label maps."""
    parts = []
    for split, count in COUNTS.items():
        parts += pair_parts(root, ADE20K, split, ARCHIVE, count)
    result = Report("ADE20K", root, parts)
    result.offer(HOME)
    return result


def pair_parts(
    root: str, cls: type, split: str, source: str, official: int | None, **options
) -> list[Part]:
    """Check the images and the label maps of one split.

    Args:
        root: the data set's.
        cls: has METAINFO and the defaults of an mmseg data set.
        split: name of the folders in images/ and annotations/.
        source: the archive, or another way to the data, for messages.
        official: number of images in the release; None without one.
        **options: of the data set's entry in a config.

    Returns:
        the images' part and the maps'.
    """
    images = Part(f"{split} images", f"images/{split}", expected=official)
    maps = Part(f"{split} label maps", f"annotations/{split}", expected=official)
    has_images = scan_part(images, root, source, (".jpg",))
    has_maps = scan_part(maps, root, source, (".png",))
    if not (has_images and has_maps):
        return [images, maps]
    maps.looked_into = ""
    prefixes = dict(img_path=images.path, seg_map_path=maps.path)
    entry = dict(type=cls, data_root=root, data_prefix=prefixes, **options)
    try:
        survey = check_label_maps(DatasetConfig(split, entry, ""))
    except UserError as error:
        # The maps that do not open are reported once.
        if maps.state != "damaged":
            where = error.value if os.path.isfile(str(error.value)) else maps.path
            maps.fail("wrong", f"{where}: expected {error.expected}; {error.fix}; see {source}")
        return [images, maps]
    labels = sorted(survey.seen)
    maps.looked_into = (
        f"{survey.read} of {has_maps.count:,} read, {len(labels)} labels "
        f"from {labels[0]} to {labels[-1]}"
    )
    return [images, maps]
