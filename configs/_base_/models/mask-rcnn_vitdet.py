# ViTDet's Mask R-CNN (arXiv 2203.16527, section 3 and appendix): windows, decomposed relative
# positions, a pyramid from the last map, layer norms and two convolutions in the RPN, as in mmdet's
# project ViTDet. `global_blocks` is left at the last block of each quarter.
_base_ = ['./mask-rcnn_vit-fpn.py']
norm_cfg = dict(type='mmpretrain.LN2d', eps=1e-6)
model = dict(
    # images of 1024 px at most, so all become squares: the position embeddings are learned for one
    data_preprocessor=dict(pad_size_divisor=1024),
    backbone=dict(
        img_size=1024, with_cls_token=False, window_size=14, decomposed_rel_pos=True,
        out_indices=(-1,)),
    neck=dict(
        _delete_=True, type='mimseg.SimpleFeaturePyramid', in_channels=768, out_channels=256,
        scales=(4, 2, 1, 0.5), num_outs=5),
    rpn_head=dict(num_convs=2),
    roi_head=dict(
        bbox_head=dict(
            type='Shared4Conv1FCBBoxHead', conv_out_channels=256, norm_cfg=norm_cfg),
        mask_head=dict(norm_cfg=norm_cfg)),
)
