# ViTDet (arXiv 2203.16527): Mask R-CNN with ViT-B/16. Numbers of its code (detectron2,
# projects/ViTDet/configs/COCO/mask_rcnn_vitdet_b_100ep.py) and of mmdet's project ViTDet, whose 16
# processes of 4 images these are. With MAE's weights it reaches 51.6 box AP there.
# Ours: bfloat16 for float16; position embeddings kept at 64x64, not resized from 14x14 every time;
# no weight decay on biases (its code spares norms and position embeddings alone).
_base_ = ['../_base_/models/mask-rcnn_vitdet.py', '../_base_/datasets/coco_lsj1024.py',
          '../_base_/runtime/detection.py', '../_base_/runtime/common.py']

model = dict(backbone=dict(arch='base', window_size=14, drop_path_rate=0.1))
train_dataloader = dict(batch_size=4)
optim_wrapper = dict(
    type='mimseg.AmpOptimWrapper',
    optimizer=dict(type='AdamW', lr=1e-4, betas=(0.9, 0.999), weight_decay=0.1),
    constructor='mimseg.LayerDecayConstructor',
    paramwise_cfg=dict(layer_decay_rate=0.7),
)
# 100 epochs of 118000 images in batches of 64; steps after 88.9 and 96.3 of them
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-3, by_epoch=False, begin=0, end=250),
    dict(type='MultiStepLR', by_epoch=False, begin=0, end=184375,
         milestones=[163889, 177546], gamma=0.1),
]
train_cfg = dict(type='IterBasedTrainLoop', max_iters=184375, val_interval=5000)
default_hooks = dict(checkpoint=dict(interval=5000))
auto_scale_lr = dict(base_batch_size=64)
