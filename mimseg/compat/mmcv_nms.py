"""mmcv's non-maximum suppressions, called as `mmcv.ops.nms` calls the compiled ones.

Boxes are (N, 4) as x1, y1, x2, y2. A box's width is x2 - x1 + offset, its height likewise.
"""

from __future__ import annotations

import torch
from torch import Tensor

NAIVE, LINEAR, GAUSSIAN = 0, 1, 2


def nms(boxes: Tensor, scores: Tensor, iou_threshold: float, offset: int) -> Tensor:
    """Greedy suppression: a box goes when it overlaps a better kept box too much.

    Args:
        boxes: (N, 4), any floating type.
        scores: (N,), any floating type, not necessarily the boxes'.
        iou_threshold: a box goes when its IoU with a better kept one is above this.
        offset: 0 or 1.

    Returns:
        (K,) indices of the kept boxes, best score first.
    """
    import torchvision  # noqa: F401  registers the op; imported late, since mmseg needs mmcv but no nms

    dtype = torch.promote_types(torch.promote_types(boxes.dtype, scores.dtype), torch.float32)
    boxes = boxes.to(dtype)
    if offset:  # a closed box [x1, x2] is the half-open [x1, x2 + 1)
        boxes = boxes + boxes.new_tensor([0, 0, offset, offset])
    return torch.ops.torchvision.nms(boxes, scores.to(dtype), float(iou_threshold))


def softnms(
    boxes: Tensor,
    scores: Tensor,
    dets: Tensor,
    iou_threshold: float,
    sigma: float,
    min_score: float,
    method: int,
    offset: int,
) -> Tensor:
    """Soft-NMS (arXiv 1704.04503, figure 2): lower the scores of overlapping boxes, drop low ones.

    Args:
        boxes: (N, 4) on the CPU.
        scores: (N,).
        dets: (N, 5), filled in place: the first K rows become the kept boxes with their new scores.
        iou_threshold: from this IoU on, `naive` makes a score 0, `linear` multiplies it by 1 - IoU.
        sigma: `gaussian` multiplies by exp(-IoU^2 / sigma), whatever the IoU.
        min_score: a box whose score falls below this is dropped.
        method: 0 naive, 1 linear, 2 gaussian.
        offset: 0 or 1.

    Returns:
        (K,) indices of the kept boxes, in the order of the rows of `dets`.
    """
    if method not in (NAIVE, LINEAR, GAUSSIAN):
        raise ValueError(f"softnms: method = {method!r}: expected 0 naive, 1 linear or 2 gaussian.")
    scores = scores.clone()
    left = torch.arange(len(boxes), device=boxes.device)
    kept = []
    while len(left):
        best = scores[left].argmax()
        chosen = left[best]
        dets[len(kept), :4] = boxes[chosen]
        dets[len(kept), 4] = scores[chosen]
        kept.append(chosen)
        left = torch.cat([left[:best], left[best + 1 :]])
        iou = _iou(boxes[chosen], boxes[left], offset)
        if method == GAUSSIAN:
            weight = torch.exp(-iou.square() / sigma)
        else:
            lowered = 1 - iou if method == LINEAR else torch.zeros_like(iou)
            weight = torch.where(iou >= iou_threshold, lowered, 1.0)
        scores[left] *= weight.to(scores.dtype)
        left = left[scores[left] >= min_score]
    return torch.stack(kept) if kept else left


def nms_match(dets: Tensor, iou_threshold: float) -> list[list[int]]:
    """Group boxes by the kept box that suppresses them.

    Args:
        dets: (N, 5) on the CPU, boxes with scores.
        iou_threshold: a box joins the best box that it overlaps by at least this.

    Returns:
        A list a kept box: its index, then those of the boxes that it suppresses, best score first.
    """
    left = dets[:, 4].argsort(descending=True, stable=True)
    groups = []
    while len(left):
        chosen, left = left[0], left[1:]
        joins = _iou(dets[chosen, :4], dets[left, :4], offset=0) >= iou_threshold
        groups.append([chosen.item(), *left[joins].tolist()])
        left = left[~joins]
    return groups


def _iou(box: Tensor, others: Tensor, offset: int) -> Tensor:
    """IoU of one box (4,) with others (N, 4): (N,), 0 for two empty boxes."""
    size = (torch.minimum(box[2:], others[:, 2:]) - torch.maximum(box[:2], others[:, :2])) + offset
    inter = size.clamp(min=0).prod(dim=1)
    area = (box[2:] - box[:2] + offset).prod()
    areas = (others[:, 2:] - others[:, :2] + offset).prod(dim=1)
    return (inter / (area + areas - inter)).nan_to_num(0)
