"""Tiny Mask R-CNN and Cascade Mask R-CNN: a training step and a prediction, also under autocast."""

from pathlib import Path

import pytest
import torch

import mimseg  # noqa: F401  offers mmcv._ext

SIDE = 96


def shrink(node):
    """Cut a detector's config down to three classes and a handful of channels and boxes."""
    small = dict(
        num_classes=3,
        fc_out_channels=32,
        out_channels=16,
        feat_channels=16,
        conv_out_channels=16,
        nms_pre=64,
        max_per_img=32,
        num=32,
        num_convs=1,
    )
    for key, value in node.items():
        if key == "in_channels":
            node[key] = [8, 16, 32, 64] if isinstance(value, list) else 16
        elif key in small:
            node[key] = small[key]
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, dict):
                shrink(child)


def build(name):
    import mmdet
    from mmdet.registry import MODELS
    from mmengine.config import Config

    folder = Path(mmdet.__file__).parent / ".mim/configs/_base_/models"
    model = Config.fromfile(folder / name).model
    shrink(model)
    model.backbone.update(depth=18, base_channels=8, frozen_stages=-1, init_cfg=None)
    model.test_cfg.rcnn.score_thr = 0.0  # an untrained model's boxes too
    torch.manual_seed(0)
    detector = MODELS.build(dict(model, _scope_="mmdet"))
    detector.init_weights()
    return detector


def scene():
    from mmdet.testing import demo_mm_inputs

    shapes = [(3, SIDE, SIDE)] * 2
    return demo_mm_inputs(2, shapes, num_items=[3, 2], num_classes=3, with_mask=True)


@pytest.mark.parametrize("half", [False, True], ids=["float32", "bf16-autocast"])
@pytest.mark.parametrize("name", ["mask-rcnn_r50_fpn.py", "cascade-mask-rcnn_r50_fpn.py"])
def test_trains_and_predicts(name, half):
    detector = build(name).train()
    with torch.autocast("cpu", torch.bfloat16, enabled=half):
        losses = detector(**detector.data_preprocessor(scene(), True), mode="loss")
        total, log = detector.parse_losses(losses)
    total.backward()
    assert {key.split(".")[-1] for key in log} >= {"loss_rpn_cls", "loss_bbox", "loss_mask"}
    assert all(value.isfinite() for value in log.values())
    for parameter_name, parameter in detector.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), parameter_name
    for part in (detector.backbone, detector.neck, detector.rpn_head, detector.roi_head):
        assert sum(p.grad.abs().sum() for p in part.parameters()) > 0

    detector.eval()
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=half):
        results = detector(**detector.data_preprocessor(scene(), False), mode="predict")
    for result in results:
        found = result.pred_instances
        assert len(found) > 0 and found.bboxes.dtype == torch.float32
        assert found.masks.shape == (len(found), *result.ori_shape[:2])
        assert found.scores.isfinite().all() and (found.labels < 3).all()


def test_proposals_from_half_precision_outputs_keep_float32_boxes():
    """Outputs that bfloat16 holds exactly give the boxes that the same numbers in float32 give."""
    head = build("mask-rcnn_r50_fpn.py").rpn_head
    image = [dict(img_shape=(640, 640))]
    outputs = [
        [torch.randn(1, channels, 640 // s, 640 // s).bfloat16() for s in (4, 8, 16, 32, 64)]
        for channels in (3, 12)
    ]
    (half,) = head.predict_by_feat(*outputs, batch_img_metas=image)
    exact = [[level.float() for level in output] for output in outputs]
    (full,) = head.predict_by_feat(*exact, batch_img_metas=image)
    assert half.bboxes.dtype == torch.float32 and len(half) > 10
    assert torch.equal(half.bboxes, full.bboxes) and torch.equal(half.scores, full.scores)


def test_rois_are_cut_with_float32_corners():
    extractor = build("mask-rcnn_r50_fpn.py").roi_head.bbox_roi_extractor
    maps = [torch.randn(1, 16, 640 // s, 640 // s).bfloat16() for s in (4, 8, 16, 32)]
    corners = 500 + torch.rand(8, 2) * 50
    sizes = 20 + torch.rand(8, 2) * 60
    rois = torch.cat([torch.zeros(8, 1), corners, corners + sizes], dim=1)
    pooled = extractor(maps, rois)
    expected = extractor([level.float() for level in maps], rois)
    assert pooled.dtype == torch.bfloat16
    assert torch.equal(pooled, expected.bfloat16())
