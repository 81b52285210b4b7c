"""One image, ready for a network."""

import numpy as np
import pytest
import torch
from PIL import Image

from mimseg.data.transform import IMAGENET_MEAN, IMAGENET_STD, Transform
from mimseg.errors import UserError

RAW = dict(mean=(0, 0, 0), std=(1, 1, 1))


def pixels(height=40, width=60):
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


def test_paths_pil_images_and_arrays_are_the_same(tmp_path):
    Image.fromarray(pixels()).save(tmp_path / "a.png")
    transform = Transform()
    expected = torch.from_numpy(pixels()).permute(2, 0, 1) / 255
    for channel, mean, std in zip(expected, IMAGENET_MEAN, IMAGENET_STD, strict=True):
        channel.sub_(mean).div_(std)
    for image in (pixels(), Image.fromarray(pixels()), tmp_path / "a.png", str(tmp_path / "a.png")):
        torch.testing.assert_close(transform(image), expected)
    flipped = Transform(bgr=True)(pixels())
    torch.testing.assert_close(flipped, expected.flip(0))


def test_gray_and_transparent_images_have_three_channels():
    gray = Transform(**RAW)(pixels()[..., 0])
    assert gray.shape == (3, 40, 60) and torch.equal(gray[0], gray[2])
    assert Transform()(Image.new("LA", (5, 4))).shape == (3, 4, 5)


@pytest.mark.parametrize("size, shape", [(32, (32, 32)), ((16, 50), (16, 50)), (None, (40, 60))])
def test_the_shorter_side_is_resized_and_the_center_cut_out(size, shape):
    assert Transform(size=size)(pixels()).shape == (3, *shape)


def test_the_center_is_cut_out():
    columns = np.zeros((20, 60, 3), np.uint8)
    columns[:, 20:40] = 255
    assert Transform(**RAW, size=20)(columns).min() == 1  # no resizing: every bit is kept
    assert Transform(**RAW, size=10)(np.full((20, 60, 3), 255, np.uint8)).min() == 1


def test_a_camera_held_upright(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # the top is on the right
    Image.fromarray(pixels()).save(tmp_path / "a.png", exif=exif)
    assert Transform()(tmp_path / "a.png").shape == (3, 60, 40)


def test_what_is_no_image(tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"nothing")
    for image, message in [
        (tmp_path / "a.jpg", "a.jpg.*an image that opens"),
        (tmp_path / "b.jpg", "b.jpg.*an image that opens"),
        (np.zeros((4, 4, 3)), "float64.*expected uint8"),
        (np.zeros((4, 4, 2), np.uint8), r"\(4, 4, 2\)"),
        (np.zeros(4, np.uint8), r"\(4,\)"),
    ]:
        with pytest.raises(UserError, match=message):
            Transform()(image)
    with pytest.raises(UserError, match="mean = .*per channel"):
        Transform(mean=(0.5,))
