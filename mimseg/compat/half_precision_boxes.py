"""Keep mmdet's boxes in float32 under autocast.

Reason: mmdet makes the anchors of a prediction in the scores' type, and casts RoIs to the features'
type. bfloat16 has 8 significant bits: at coordinate 600 a box moves by up to 2 pixels, and the
shift by level or class that batched NMS adds makes it tens. A float32 run is left as it is. Both
can go when mmdet keeps boxes in float32.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from types import ModuleType


def decode_in_float32(heads: ModuleType) -> None:
    """Turn a dense head's outputs into boxes (RPN: proposals) in float32.

    Args:
        heads: the module mmdet.models.dense_heads.base_dense_head.
    """
    head = heads.BaseDenseHead
    original = head.predict_by_feat

    @functools.wraps(original)
    def predict_by_feat(self, cls_scores, bbox_preds, score_factors=None, *args, **kwargs):
        factors = score_factors and _to_float32(score_factors)
        boxes = _to_float32(bbox_preds)
        return original(self, _to_float32(cls_scores), boxes, factors, *args, **kwargs)

    head.predict_by_feat = predict_by_feat


def pool_in_float32(extractors: ModuleType) -> None:
    """Cut RoIs with their float32 corners; the pooled features come in the maps' type, as before.

    Args:
        extractors: the module mmdet.models.roi_heads.roi_extractors.single_level_roi_extractor.
    """
    extractor = extractors.SingleRoIExtractor
    original = extractor.forward

    @functools.wraps(original)
    def forward(self, feats, rois, roi_scale_factor=None):
        pooled = original(self, tuple(_to_float32(feats)), rois.float(), roi_scale_factor)
        return pooled.to(feats[0].dtype)

    extractor.forward = forward


def _to_float32(tensors: Sequence) -> list:
    """Cast half-precision tensors to float32; others, and None, stay as they are."""
    return [t.float() if t is not None and t.element_size() < 4 else t for t in tensors]
