"""RoIAlign through mmcv.ops, against bilinear sampling in loops."""

import math

import pytest
import torch

import mimseg  # noqa: F401  offers mmcv._ext


def bilinear(plane, y, x):
    """The value of a map (C, H, W) at a real-valued place, 0 beyond one pixel outside."""
    height, width = plane.shape[1:]
    if not (-1 <= y <= height and -1 <= x <= width):
        return plane.new_zeros(len(plane))
    y, x = min(max(y, 0), height - 1), min(max(x, 0), width - 1)
    top, left = int(y), int(x)
    bottom, right = min(top + 1, height - 1), min(left + 1, width - 1)
    dy, dx = y - top, x - left
    upper = plane[:, top, left] * (1 - dx) + plane[:, top, right] * dx
    lower = plane[:, bottom, left] * (1 - dx) + plane[:, bottom, right] * dx
    return upper * (1 - dy) + lower * dy


def roi_align_in_loops(maps, rois, size, scale, ratio, aligned):
    pooled = []
    for image, *corners in rois.tolist():
        x1, y1, x2, y2 = (corner * scale - (0.5 if aligned else 0) for corner in corners)
        wide, high = x2 - x1, y2 - y1
        if not aligned:  # the old version makes every RoI one pixel or larger
            wide, high = max(wide, 1), max(high, 1)
        bin_h, bin_w = high / size[0], wide / size[1]
        n_y, n_x = (ratio, ratio) if ratio else (math.ceil(bin_h), math.ceil(bin_w))
        for i in range(size[0]):
            for j in range(size[1]):
                points = [
                    bilinear(
                        maps[int(image)],
                        y1 + bin_h * (i + (a + 0.5) / n_y),
                        x1 + bin_w * (j + (b + 0.5) / n_x),
                    )
                    for a in range(n_y)
                    for b in range(n_x)
                ]
                pooled.append(sum(points, maps.new_zeros(maps.shape[1])) / max(len(points), 1))
    return torch.stack(pooled).view(len(rois), *size, -1).permute(0, 3, 1, 2)


ROIS = torch.tensor(
    [
        [1, 2.0, 3.0, 21.5, 14.0],
        [0, 0.0, 0.0, 31.0, 31.0],
        [0, -9.0, 4.0, 6.0, 40.0],  # partly outside
        [1, 60.0, 60.0, 80.0, 80.0],  # wholly outside
        [1, 7.3, 7.3, 7.3, 7.3],  # an empty box
        [0, 10.2, 9.1, 11.0, 9.9],  # smaller than a pixel of the map
    ]
)


@pytest.mark.parametrize("aligned", [True, False])
@pytest.mark.parametrize("ratio", [0, 2])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_pools_and_differentiates_like_loops(ratio, aligned, dtype):
    from mmcv.ops import roi_align

    maps = torch.randn(2, 3, 8, 9, dtype=dtype, requires_grad=True)
    rois = ROIS[torch.randperm(len(ROIS))].to(dtype)
    expected = roi_align_in_loops(maps, rois, (3, 2), 0.25, ratio, aligned)
    pooled = roi_align(maps, rois, (3, 2), 0.25, ratio, "avg", aligned)
    torch.testing.assert_close(pooled, expected, rtol=1e-5, atol=1e-5)

    upstream = torch.randn_like(pooled)
    (slow,) = torch.autograd.grad(expected, maps, upstream)
    (fast,) = torch.autograd.grad(pooled, maps, upstream)
    assert slow.abs().sum() > 0
    torch.testing.assert_close(fast, slow, rtol=1e-5, atol=1e-5)


def test_no_rois_give_no_rows_and_a_zero_gradient():
    from mmcv.ops import roi_align

    maps = torch.randn(2, 3, 8, 8, requires_grad=True)
    pooled = roi_align(maps, torch.zeros(0, 5), (7, 7), 0.25, 0, "avg", True)
    assert pooled.shape == (0, 3, 7, 7)
    pooled.sum().backward()
    assert maps.grad.shape == maps.shape and maps.grad.abs().sum() == 0


@pytest.mark.parametrize("half", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("rois_type", [torch.float32, None])
def test_half_maps_are_summed_in_float32(half, rois_type):
    """The one rounding is that of the result, under autocast too, with RoIs of either type."""
    from mmcv.ops import roi_align

    maps = torch.randn(2, 3, 16, 16).to(half).requires_grad_()
    rois = torch.tensor([[0, 2.0, 3, 50, 60], [1, 0, 8, 64, 64]]).to(rois_type or half)
    with torch.autocast("cpu", torch.bfloat16):
        pooled = roi_align(maps, rois, (2, 2), 0.25, 0, "avg", True)
    exact = maps.detach().float().requires_grad_()
    expected = roi_align_in_loops(exact, rois.float(), (2, 2), 0.25, 0, True)
    assert pooled.dtype == half
    torch.testing.assert_close(pooled, expected.to(half), rtol=0.01, atol=1e-3)

    pooled.float().square().sum().backward()
    expected.square().sum().backward()
    assert maps.grad.dtype == half
    torch.testing.assert_close(maps.grad.float(), exact.grad, rtol=0.02, atol=2e-3)


def test_max_pooling_says_what_to_do():
    from mmcv.ops import roi_align

    with pytest.raises(ValueError, match=r"pool_mode = 'max': expected 'avg'.*compiled ops"):
        roi_align(torch.zeros(1, 1, 8, 8), torch.zeros(1, 5), (2, 2), 1.0, 0, "max", True)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_cuda_equals_cpu():
    from mmcv.ops import roi_align

    results = []
    maps = torch.randn(2, 3, 8, 9)
    for device in ("cpu", "cuda"):
        there = maps.detach().to(device).requires_grad_()
        pooled = roi_align(there, ROIS.to(device), (3, 2), 0.25, 0, "avg", True)
        pooled.square().sum().backward()
        results.append((pooled.detach().cpu(), there.grad.cpu()))
    for on_cpu, on_cuda in zip(*results, strict=True):
        torch.testing.assert_close(on_cpu, on_cuda, rtol=1e-4, atol=1e-4)
