"""mmcv's RoIAlign, forward and backward, on torchvision's.

RoIs are (K, 5): the image's index in the batch, then x1, y1, x2, y2 in the image's pixels. The
results are written into tensors that the caller made, as the compiled ops do.
"""

from __future__ import annotations

import torch
from torch import Tensor

from mimseg.errors import UserError


def roi_align_forward(
    input: Tensor,
    rois: Tensor,
    output: Tensor,
    argmax_y: Tensor,
    argmax_x: Tensor,
    aligned_height: int,
    aligned_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    pool_mode: int,
    aligned: bool,
) -> None:
    """Pool each RoI of the maps `input` (B, C, H, W) into `output` (K, C, h, w), in place.

    The sums are made in float32 (float64 for float64 maps) whatever the types of maps and RoIs.

    Args:
        argmax_y, argmax_x: used by max pooling only.
        spatial_scale: the maps' size over the images'.
        sampling_ratio: sample points a bin and axis; 0 takes the bin's size, rounded up.
        pool_mode: 1 averages the sample points; 0, their maximum, is not offered here.
        aligned: shift the coordinates by half a pixel, so that pixel i covers [i, i + 1).

    Raises:
        UserError: `pool_mode` is max.
    """
    import torchvision  # noqa: F401  registers the op; imported late, since mmseg needs mmcv but no RoIs

    _refuse_max(pool_mode)
    dtype = _compute_dtype(input)
    size = (aligned_height, aligned_width)
    with torch.autocast(input.device.type, enabled=False):
        pooled = torch.ops.torchvision.roi_align(
            input.to(dtype), rois.to(dtype), spatial_scale, *size, max(sampling_ratio, 0), aligned
        )
    output.copy_(pooled)


def roi_align_backward(
    grad_output: Tensor,
    rois: Tensor,
    argmax_y: Tensor,
    argmax_x: Tensor,
    grad_input: Tensor,
    aligned_height: int,
    aligned_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    pool_mode: int,
    aligned: bool,
) -> None:
    """Spread `grad_output` (K, C, h, w) over `grad_input` (B, C, H, W), in place.

    The arguments are those of `roi_align_forward`. RoIs get no gradient, as in mmcv.

    Raises:
        UserError: `pool_mode` is max.
    """
    import torchvision  # noqa: F401

    _refuse_max(pool_mode)
    dtype = _compute_dtype(grad_output)
    size = (aligned_height, aligned_width)
    with torch.autocast(grad_output.device.type, enabled=False):
        gradient = torch.ops.torchvision._roi_align_backward(
            grad_output.to(dtype),
            rois.to(dtype),
            spatial_scale,
            *size,
            *grad_input.shape,
            max(sampling_ratio, 0),
            aligned,
        )
    grad_input.copy_(gradient)


def _compute_dtype(tensor: Tensor) -> torch.dtype:
    return torch.float64 if tensor.dtype == torch.float64 else torch.float32


def _refuse_max(pool_mode: int) -> None:
    if pool_mode != 1:
        raise UserError(
            "roi_layer.pool_mode",
            "max",
            expected="'avg', the one kind of RoIAlign that mimseg's stand-in for mmcv's compiled "
            "ops has",
            fix="set pool_mode='avg', or install onedl-mmcv with compiled ops",
        )
