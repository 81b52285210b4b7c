"""Non-maximum suppression through mmcv.ops, against greedy loops."""

import math

import numpy as np
import pytest
import torch

import mimseg  # noqa: F401  offers mmcv._ext


def iou(a, b, offset=0):
    wide = max(0.0, min(a[2], b[2]) - max(a[0], b[0]) + offset)
    high = max(0.0, min(a[3], b[3]) - max(a[1], b[1]) + offset)
    area = sum((c[2] - c[0] + offset) * (c[3] - c[1] + offset) for c in (a, b)) - wide * high
    return wide * high / area if area else 0.0


def greedy(boxes, scores, threshold, offset=0):
    kept = []
    for i in scores.argsort(descending=True).tolist():
        if all(iou(boxes[i].tolist(), boxes[k].tolist(), offset) <= threshold for k in kept):
            kept.append(i)
    return kept


def soft(boxes, scores, method, threshold, sigma, min_score, offset):
    left, kept = dict(enumerate(scores.tolist())), []
    while left:
        best = max(left, key=left.get)
        kept.append((best, left.pop(best)))
        for i in list(left):
            overlap = iou(boxes[best].tolist(), boxes[i].tolist(), offset)
            if method == "gaussian":
                left[i] *= math.exp(-(overlap**2) / sigma)
            elif overlap >= threshold:
                left[i] *= 1 - overlap if method == "linear" else 0
            if left[i] < min_score:
                del left[i]
    return kept


def crowd(n=60, side=30.0, seed=0):
    """Boxes that overlap a lot, in no order, with scores that all differ."""
    draw = torch.Generator().manual_seed(seed)
    corners = torch.rand(n, 2, generator=draw) * side
    boxes = torch.cat([corners, corners + 2 + torch.rand(n, 2, generator=draw) * 20], dim=1)
    return boxes, (torch.randperm(n, generator=draw) + 1) / (n + 1)


@pytest.mark.parametrize("offset", [0, 1])
@pytest.mark.parametrize("threshold", [0.1, 0.5, 0.65])
def test_keeps_what_greedy_loops_keep_in_any_order(threshold, offset):
    from mmcv.ops import nms

    boxes, scores = crowd()
    expected = greedy(boxes, scores, threshold, offset)
    assert 1 < len(expected) < len(boxes)
    for seed in range(3):
        order = torch.randperm(len(boxes), generator=torch.Generator().manual_seed(seed))
        dets, kept = nms(boxes[order], scores[order], threshold, offset=offset)
        assert order[kept].tolist() == expected
        assert torch.equal(dets, torch.cat([boxes, scores[:, None]], dim=1)[expected])


def test_offset_decides_a_touching_pair():
    """With offset 1 these share a column, 10 of 110 + 110 - 10 pixels; with 0 they do not meet."""
    from mmcv.ops import nms

    boxes = torch.tensor([[0.0, 0, 10, 9], [10, 0, 20, 9]])
    scores = torch.tensor([0.5, 0.9])
    assert nms(boxes, scores, 0.04, offset=0)[1].tolist() == [1, 0]
    assert nms(boxes, scores, 0.04, offset=1)[1].tolist() == [1]


def test_no_boxes_and_empty_boxes():
    from mmcv.ops import nms, soft_nms

    none = torch.zeros(0, 4), torch.zeros(0)
    assert nms(*none, 0.5)[1].shape == (0,)
    assert soft_nms(*none, 0.5)[1].shape == (0,)
    points = torch.tensor([[3.0, 3, 3, 3], [3, 3, 3, 3], [0, 0, 9, 9]])
    scores = torch.tensor([0.1, 0.2, 0.3])
    assert nms(points, scores, 0.5)[1].tolist() == [2, 1, 0]
    dets, kept = soft_nms(points, scores, 0.5, method="gaussian")
    assert kept.tolist() == [2, 1, 0] and dets[:, 4].isfinite().all()


def test_score_threshold_max_num_and_numpy():
    from mmcv.ops import nms

    boxes, scores = crowd()
    expected = [i for i in greedy(boxes, scores, 0.5) if scores[i] > 0.6]
    dets, kept = nms(boxes.numpy(), scores.numpy(), 0.5, score_threshold=0.6, max_num=2)
    assert isinstance(dets, np.ndarray) and kept.tolist() == expected[:2] and len(expected) > 2


@pytest.mark.parametrize("split_thr", [10000, 10])
def test_batched_nms_suppresses_within_a_class_only(split_thr):
    from mmcv.ops import batched_nms

    boxes, scores = crowd(80)
    classes = torch.arange(80) % 3
    expected = []
    for c in range(3):
        rows = (classes == c).nonzero()[:, 0]
        expected += rows[greedy(boxes[rows], scores[rows], 0.4)].tolist()
    expected.sort(key=lambda i: -scores[i])
    cfg = dict(type="nms", iou_threshold=0.4, split_thr=split_thr)
    dets, kept = batched_nms(boxes, scores, classes, cfg)
    assert kept.tolist() == expected
    assert torch.equal(dets, torch.cat([boxes, scores[:, None]], dim=1)[expected])
    agnostic = batched_nms(boxes, scores, classes, cfg | dict(class_agnostic=True, split_thr=999))
    assert agnostic[1].tolist() == greedy(boxes, scores, 0.4)


def test_boxes_and_scores_of_different_types():
    """Under autocast the scores are bfloat16 and the boxes are not."""
    from mmcv.ops import nms

    boxes, scores = crowd()
    half = (scores * 256).round().div(256).bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        _, kept = nms(boxes, half, 0.5)
    order = half.float().argsort(descending=True, stable=True)
    assert kept.tolist() == order[greedy(boxes[order], -torch.arange(60.0), 0.5)].tolist()


@pytest.mark.parametrize("offset", [0, 1])
@pytest.mark.parametrize("method", ["naive", "linear", "gaussian"])
def test_soft_nms(method, offset):
    from mmcv.ops import soft_nms

    boxes, scores = crowd(40)
    before = scores.clone()
    expected = soft(boxes, scores, method, 0.3, 0.5, 0.05, offset)
    dets, kept = soft_nms(boxes, scores, 0.3, 0.5, 0.05, method, offset)
    assert kept.tolist() == [i for i, _ in expected] and 1 < len(kept) < 40
    torch.testing.assert_close(dets[:, 4], torch.tensor([score for _, score in expected]))
    assert torch.equal(dets[:, :4], boxes[kept]) and torch.equal(scores, before)


def test_nms_match_groups_every_box_with_the_one_that_suppresses_it():
    from mmcv.ops import nms_match

    boxes, scores = crowd(30)
    groups = nms_match(torch.cat([boxes, scores[:, None]], dim=1), 0.4)
    assert [group[0].item() for group in groups] == greedy(boxes, scores, 0.4)
    assert sorted(torch.cat(groups).tolist()) == list(range(30))
    for group in groups:
        assert scores[group].tolist() == sorted(scores[group].tolist(), reverse=True)
        keeper = boxes[group[0]].tolist()
        assert all(iou(keeper, boxes[i].tolist()) >= 0.4 for i in group[1:])


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_cuda_equals_cpu():
    from mmcv.ops import nms

    boxes, scores = crowd()
    expected = nms(boxes, scores, 0.5, offset=1)[1]
    assert torch.equal(nms(boxes.cuda(), scores.cuda(), 0.5, offset=1)[1].cpu(), expected)
