# ViTDet (arXiv 2203.16527): Mask R-CNN with ViT-H/16. Numbers of its code (detectron2,
# projects/ViTDet/configs/COCO/mask_rcnn_vitdet_h_75ep.py), 56.7 box AP there with MAE's weights,
# but for the schedule: 100 epochs, as B and L, are our choice. Its 75 epochs are max_iters=138281,
# end=138281 and milestones=[122916, 133159].
# Patches of 16 px, as in MAE's p14to16 file: tools/convert.py --patch-size 16 makes one of a ViT-H/14.
# Ours too, beside what ViT-B's config says: blocks are recomputed (theirs has one image a process);
# no weight decay on norms and position embeddings, which its code for ViT-H decays.
_base_ = ['../_base_/models/mask-rcnn_vitdet.py', '../_base_/datasets/coco_lsj1024.py',
          '../_base_/runtime/detection.py', '../_base_/runtime/common.py']

model = dict(
    backbone=dict(
        arch='huge', window_size=14, drop_path_rate=0.5, activation_checkpointing=True),
    neck=dict(in_channels=1280))
train_dataloader = dict(batch_size=4)
optim_wrapper = dict(
    type='mimseg.AmpOptimWrapper',
    optimizer=dict(type='AdamW', lr=1e-4, betas=(0.9, 0.999), weight_decay=0.1),
    constructor='mimseg.LayerDecayConstructor',
    paramwise_cfg=dict(layer_decay_rate=0.9),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-3, by_epoch=False, begin=0, end=250),
    dict(type='MultiStepLR', by_epoch=False, begin=0, end=184375,
         milestones=[163889, 177546], gamma=0.1),
]
train_cfg = dict(type='IterBasedTrainLoop', max_iters=184375, val_interval=5000)
default_hooks = dict(checkpoint=dict(interval=5000))
auto_scale_lr = dict(base_batch_size=64)
