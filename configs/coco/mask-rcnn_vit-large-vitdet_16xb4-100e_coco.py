# ViTDet (arXiv 2203.16527): Mask R-CNN with ViT-L/16. Numbers of its code (detectron2,
# projects/ViTDet/configs/COCO/mask_rcnn_vitdet_l_100ep.py): 55.5 box AP there with MAE's weights.
# Ours, beside what ViT-B's config says: blocks are recomputed, as four images a process need it
# (theirs: one).
_base_ = './mask-rcnn_vit-base-vitdet_16xb4-100e_coco.py'

model = dict(
    backbone=dict(arch='large', drop_path_rate=0.4, activation_checkpointing=True),
    neck=dict(in_channels=1024))
optim_wrapper = dict(paramwise_cfg=dict(layer_decay_rate=0.8))
