"""Loads images, and skips one among many that cannot be read."""

from __future__ import annotations

import io
import logging
import os

import cv2
import mmcv
import numpy as np
from mmcv.transforms import LoadImageFromFile as MMCVLoadImageFromFile
from mmengine import fileio
from mmengine.logging import print_log
from PIL import ExifTags, Image, UnidentifiedImageError

from mimseg.errors import UserError
from mimseg.registry import TRANSFORMS

# What a file's last bytes are when it is whole; others are decoded a second time, strictly.
WHOLE_ENDINGS = {b"\xff\xd8": b"\xff\xd9", b"\x89P": b"IEND\xaeB`\x82"}


def sizes(path: str | os.PathLike) -> tuple[tuple[int, int], tuple[int, int], int]:
    """Size of an image file, (width, height): as stored, and upright by its EXIF orientation.

    Returns:
        both, and the orientation, from 1 (as stored) to 8; those from 5 on exchange the sides.

    Raises:
        OSError: it is no image that Pillow opens.
    """
    with Image.open(path) as opened:
        stored, orientation = opened.size, opened.getexif().get(ExifTags.Base.Orientation, 1)
    return stored, stored[::-1] if orientation in (5, 6, 7, 8) else stored, orientation


def why_truncated(content: bytes) -> str:
    """Return why an image's bytes are not all there, or "" where they are.

    OpenCV 4 decodes a truncated JPEG or PNG and fills the rest with gray, without a word.
    """
    ending = WHOLE_ENDINGS.get(content[:2])
    if ending and content.endswith(ending):
        return ""
    try:
        with Image.open(io.BytesIO(content)) as image:
            image.load()
    except UnidentifiedImageError:
        return ""  # a format that OpenCV knows and Pillow does not
    except (OSError, SyntaxError, ValueError) as error:
        return str(error)
    return ""


@TRANSFORMS.register_module()
class LoadImageFromFile(MMCVLoadImageFromFile):
    """Load an image; where that fails, name the file in the log and let another take its place.

    A training dataset answers None from its pipeline by drawing another image. A dataset with
    `test_mode=True` does not, because a result must be of all images: there mmengine ends the run,
    or, with `broken="raise"`, this class does, with the file's name in the error.

    Counts are kept by each loader process.

    Args:
        broken: "skip" or "raise".
        max_in_a_row: number of failures without an image between them at which all is taken to be
            broken.
        **kwargs: as of mmcv's class.

    Raises:
        UserError: `max_in_a_row` images in a row, or with `broken="raise"` one image, did not open.
    """

    def __init__(self, broken: str = "skip", max_in_a_row: int = 50, **kwargs) -> None:
        super().__init__(**kwargs)
        if broken not in ("skip", "raise"):
            raise UserError("LoadImageFromFile.broken", broken, expected="'skip' or 'raise'")
        if max_in_a_row < 1:
            raise UserError("LoadImageFromFile.max_in_a_row", max_in_a_row, expected="1 or more")
        self.broken, self.max_in_a_row = broken, max_in_a_row
        self.seen_broken: set[str] = set()
        self.in_a_row = 0

    def transform(self, results: dict) -> dict | None:
        """Add img, img_shape and ori_shape, or return None where the file does not open."""
        path = results["img_path"]
        try:
            content = fileio.get(path, backend_args=self.backend_args)
            reason = why_truncated(content) if content else "the file is empty"
            image = None if reason else self._decode(content)
        except (OSError, ValueError, SyntaxError, cv2.error) as error:  # what decoders raise
            image, reason = None, str(error) or type(error).__name__
        if image is None:
            return self._failed(str(path), reason or "it cannot be decoded")
        self.in_a_row = 0
        results["img"] = image.astype(np.float32) if self.to_float32 else image
        results["img_shape"] = results["ori_shape"] = image.shape[:2]
        return results

    def _decode(self, content: bytes) -> np.ndarray | None:
        return mmcv.imfrombytes(content, flag=self.color_type, backend=self.imdecode_backend)

    def _failed(self, path: str, reason: str) -> None:
        fix = "restore or delete the file (and its entry in the annotations)"
        if self.broken == "raise":
            raise UserError("img_path", path, expected=f"an image that opens ({reason})", fix=fix)
        self.in_a_row += 1
        if path not in self.seen_broken:
            self.seen_broken.add(path)
            print_log(
                f"skipped the unreadable image {path}: {reason} "
                f"({len(self.seen_broken)} unreadable so far in this process)",
                logger="current",
                level=logging.WARNING,
            )
        if self.in_a_row >= self.max_in_a_row:
            expected = f"images that open; {self.in_a_row} in a row did not ({reason})"
            raise UserError("img_path", path, expected=expected, fix="check the data folder")
