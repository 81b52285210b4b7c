"""Views share their geometry; the preprocessor gives RGB in [0, 1]."""

import numpy as np
import pytest
import torch

from mimseg.errors import UserError
from mimseg.registry import MODELS, TRANSFORMS


def ramp(height=60, width=90):
    """BGR: blue counts columns, green rows, red is constant."""
    image = np.zeros((height, width, 3), np.uint8)
    image[..., 0] = np.linspace(0, 255, width).astype(np.uint8)
    image[..., 1] = np.linspace(0, 255, height).astype(np.uint8)[:, None]
    image[..., 2] = 77
    return image


def views(**options):
    return TRANSFORMS.build(dict(type="mimseg.MIMViews", student=dict(size=32)) | options)


def test_both_views_show_the_same_crop():
    made = views(teacher=dict(size=16), interpolation="bilinear")
    flips = set()
    for _ in range(20):
        inputs = made(dict(img=ramp()))["inputs"]
        student, teacher = inputs["student"].float(), inputs["teacher"].float()
        assert student.shape == (3, 32, 32) and teacher.shape == (3, 16, 16)
        halved = torch.nn.functional.avg_pool2d(student, 2)
        assert (halved - teacher).abs().max() < 6
        assert (student[2] == 77).all()
        flips.add(bool(student[0, 0, 0] > student[0, 0, -1]))
    assert flips == {True, False}


def test_crops_keep_to_their_share_of_the_area():
    made = views(scale=(0.3, 0.5))
    for _ in range(50):
        left, top, right, bottom = made._crop(90, 60)
        assert 0 <= left < right <= 90 and 0 <= top < bottom <= 60
        assert 0.27 < (right - left) * (bottom - top) / 5400 < 0.53
    assert views(scale=(0.9, 1.0))._crop(400, 10) == (193, 0, 206, 10)  # no such crop: the centre


def test_one_view_alone_may_be_jittered():
    made = views(student=dict(size=32, color_jitter=0.8), teacher=dict(size=32))
    inputs = made(dict(img=ramp()))["inputs"]
    assert (inputs["teacher"][2] == 77).all() and not (inputs["student"][2] == 77).all()


def test_bad_interpolation():
    with pytest.raises(UserError, match="interpolation"):
        views(interpolation="cubic")


def test_the_preprocessor_swaps_channels_and_scales():
    pre = MODELS.build(dict(type="mimseg.MIMDataPreprocessor"))
    images = torch.randint(256, (2, 3, 8, 12), dtype=torch.uint8)
    out = pre(dict(inputs=images, data_samples=None))["inputs"]
    torch.testing.assert_close(out["student"], images[:, [2, 1, 0]].float() / 255)
    assert out["teacher"] is out["student"]
    small = images[..., :4]
    out = pre(dict(inputs=dict(student=images, teacher=small)))["inputs"]
    torch.testing.assert_close(out["teacher"], small[:, [2, 1, 0]].float() / 255)
