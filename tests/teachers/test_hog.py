"""HOG targets: mmpretrain's at the size it knows, a short reference at any other."""

import math

import pytest
import torch
import torch.nn.functional as F

from mimseg.errors import UserError
from mimseg.outputs import Needs
from mimseg.registry import MODELS

LAST = Needs(layers=frozenset({-1}))


class Student:
    def __init__(self, patch_size):
        self.patch_size = patch_size


def teacher(patch_size=8, **options):
    built = MODELS.build(dict(type="mimseg.HOGTeacher") | options)
    built.bind(Student(patch_size))
    return built.eval()


def normed(net, images):
    return (images - net.mean) / net.std


@pytest.mark.parametrize(
    ("side", "patch_size", "window"), [(224, 16, 16), (112, 8, 16), (112, 8, 0)]
)
def test_equals_mmpretrain_on_its_own_grid(side, patch_size, window):
    """mmpretrain cuts 14 x 14 patches, whatever the image: only there can the two be compared."""
    from mmpretrain.models.selfsup.maskfeat import HOGGenerator

    net = teacher(patch_size, gaussian_window=window)
    images = torch.rand(2, 3, side, side)
    out = net(images, LAST)
    expected = HOGGenerator(gaussian_window=window)(normed(net, images))
    assert out.grid == (14, 14)
    assert out.tokens[-1].shape == (2, 196, net.out_channels)
    assert torch.equal(out.tokens[-1], expected)


def reference(x, nbins, pool, window, p):
    """One token a patch: (colour, bin, cell row, cell column)."""
    sobel = torch.tensor([[1.0, 0, -1], [2, 0, -2], [1, 0, -1]])
    padded = F.pad(x[None], (1, 1, 1, 1), mode="reflect").transpose(0, 1)
    gx, gy = (F.conv2d(padded, k[None, None])[:, 0] for k in (sobel, sobel.T))
    ticks = (torch.arange(window) - (window - 1) / 2) / (window // 2)
    bell = torch.exp(-0.5 * (ticks[:, None] ** 2 + ticks[None] ** 2))
    bell = bell / bell.sum()
    _, height, width = x.shape
    cells = torch.zeros(3, nbins, height // pool, width // pool)
    for c in range(3):
        for i in range(height):
            for j in range(width):
                angle = math.atan2(gx[c, i, j], gy[c, i, j]) / math.pi * nbins
                share = math.hypot(gx[c, i, j], gy[c, i, j]) * bell[i % window, j % window]
                cells[c, math.floor(angle) % nbins, i // pool, j // pool] += share
    cells = cells / cells.norm(dim=1, keepdim=True)
    n = p // pool
    rows, cols = height // p, width // p
    return torch.stack(
        [
            cells[:, :, i * n : (i + 1) * n, j * n : (j + 1) * n].flatten()
            for i in range(rows)
            for j in range(cols)
        ]
    )


@pytest.mark.parametrize(
    ("size", "options"),
    [
        ((16, 24), dict(nbins=9, pool=4, gaussian_window=16)),  # neither square nor whole windows
        ((24, 16), dict(nbins=5, pool=8, gaussian_window=8)),
    ],
)
def test_equals_a_short_reference_at_any_size(size, options):
    net = teacher(8, mean=[0, 0, 0], std=[1, 1, 1], **options)
    images = torch.randint(32, (2, 3, *size)) / 32  # exact sums: no direction on the wrong side
    out = net(images, LAST)
    assert out.grid == (size[0] // 8, size[1] // 8)
    for image, tokens in zip(images, out.tokens[-1], strict=True):
        expected = reference(image, *options.values(), 8)
        torch.testing.assert_close(tokens, expected, rtol=1e-4, atol=1e-5)


def test_every_cell_has_a_unit_histogram_and_odd_sizes_are_padded():
    net = teacher(8, pool=4)
    images = torch.rand(2, 3, 20, 27)
    out = net(images, LAST)
    assert out.grid == (3, 4) and net.out_channels == 3 * 9 * 4
    lengths = out.tokens[-1].reshape(2, 12, 3, 9, 2, 2).norm(dim=3)
    inside = lengths.reshape(2, 3, 4, 3, 2, 2)[:, :2, :3]
    torch.testing.assert_close(inside, torch.ones_like(inside))
    whole = net(images[..., :16, :24], LAST).tokens[-1].reshape(2, 2, 3, -1)
    padded = out.tokens[-1].reshape(2, 3, 4, -1)
    assert torch.equal(whole[:, 0, :2], padded[:, 0, :2])  # away from the border, nothing changes


def test_an_edge_falls_into_its_bin_and_its_colour():
    images = torch.full((1, 3, 16, 16), 0.5)
    images[:, 0, :, 10:] = 1.0  # a vertical edge in red, in the cells of the second column
    net = teacher(8, pool=8, gaussian_window=0, mean=[0, 0, 0], std=[1, 1, 1])
    tokens = net(images, LAST).tokens[-1].reshape(2, 2, 3, 9)
    # its gradient points along x, atan2(gx, gy) = +-pi / 2: bin 4 of 9
    assert tokens[0, 1, 0].tolist() == [0, 0, 0, 0, 1, 0, 0, 0, 0]
    assert tokens[:, 0].abs().max() == 0 and tokens[:, :, 1:].abs().max() == 0


def test_autocast_changes_nothing_and_no_batch_is_kept():
    net, images = teacher(), torch.rand(1, 3, 32, 32)
    plain = net(images, LAST).tokens[-1]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        again = net(images, LAST).tokens[-1]
    assert again.dtype == torch.float32 and torch.equal(plain, again)
    assert net.generator.out is None
    assert net.generator.gaussian_kernel.shape == (16, 16)


@pytest.mark.parametrize(
    ("options", "key"),
    [
        (dict(pool=5), "teacher.pool"),
        (dict(nbins=0), "teacher.nbins"),
        (dict(pool=2.0), "teacher.pool"),
    ],
)
def test_bad_settings_are_named(options, key):
    with pytest.raises(UserError, match=key):
        teacher(16, **options)


def test_a_step_of_maskfeat_trains(tiny_mim, views):
    model = tiny_mim(
        backbone=dict(
            type="mimseg.ViT",
            arch=dict(embed_dims=48, num_layers=1, num_heads=4, feedforward_channels=96),
            img_size=32,
            patch_size=8,
            mask_mode="token",
        ),
        teacher=dict(type="mimseg.HOGTeacher"),
        normalization=dict(type="mimseg.NoNormalization"),
        head=dict(type="mimseg.LinearHead"),
        loss=dict(type="mimseg.L2Loss"),
    )
    assert not any(key.startswith("teachers.") for key in model.state_dict())
    loss = model.loss(views)["loss"]
    loss.backward()
    assert model.backbone.mask_token.grad.abs().sum() > 0
    assert loss.item() == pytest.approx(1 / 9, rel=0.3)  # unit histograms against almost nothing
