# Mask R-CNN with ViT-B/16 and FPN, 12 epochs. Learning rate, layer decay and drop path of the
# third-party MaskDistill code (drkostas/MaskDistill-PyTorch); all the rest is our choice: mmdet's
# heads and 1x schedule, weight decay 0.05, DETR-style scales, global attention, taps as in dBOT.
# Students with relative positions (MaskDistill, dBOT with CLIP, BEiT) want model.backbone.pos_embed=none
# model.backbone.rel_pos_bias=per_block model.backbone.rel_pos_resize=geometric
# model.backbone.layer_scale=0.1.
_base_ = ['../_base_/models/mask-rcnn_vit-fpn.py', '../_base_/datasets/coco_instance.py',
          '../_base_/datasets/coco_multiscale.py', '../_base_/runtime/detection.py',
          '../_base_/runtime/common.py']

model = dict(
    backbone=dict(
        arch='base', img_size=(672, 1092), drop_path_rate=0.2, out_indices=(3, 5, 7, 11)))
train_dataloader = dict(
    batch_size=2, sampler=dict(type='DefaultSampler', shuffle=True),
    batch_sampler=dict(type='AspectRatioBatchSampler'),
    dataset=dict(pipeline=_base_.train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=_base_.test_pipeline))
test_dataloader = val_dataloader
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=3e-4, betas=(0.9, 0.999), weight_decay=0.05),
    constructor='mimseg.LayerDecayConstructor',
    paramwise_cfg=dict(layer_decay_rate=0.75),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-3, by_epoch=False, begin=0, end=500),
    dict(type='MultiStepLR', begin=0, end=12, milestones=[8, 11], gamma=0.1),
]
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=12)
default_hooks = dict(
    logger=dict(log_metric_by_epoch=True), checkpoint=dict(by_epoch=True, interval=1))
log_processor = dict(by_epoch=True)
auto_scale_lr = dict(base_batch_size=16)
