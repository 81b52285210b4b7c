# Cascade Mask R-CNN with ViT-L/16, iBOT's lineage. Numbers of dBOT's code (its folder
# evaluation/object_detection) and DOWNSTREAM.md, which is right where they differ (12 epochs, layer
# decay 0.75). For students of CLIP it has lr=7e-5 and layer_decay_rate=0.9.
# What such students want of the backbone: see ViT-B's config.
# Ours, as in ViT-B's config: bfloat16, no weight decay on embeddings, a table of 42x69 patches.
_base_ = ['../_base_/models/cascade-mask-rcnn_vit.py', '../_base_/datasets/coco_multiscale.py',
          '../_base_/runtime/detection_by_epoch.py', '../_base_/runtime/common.py']

model = dict(
    backbone=dict(
        arch='large', img_size=(672, 1092), drop_path_rate=0.2, out_indices=(7, 11, 15, 23),
        activation_checkpointing=True),
    neck=[
        dict(type='mimseg.FeaturePyramid', in_channels=1024, scales=(4, 2, 1, 0.5), norm='SyncBN'),
        dict(type='FPN', in_channels=[1024] * 4, out_channels=256, num_outs=5)])
train_dataloader = dict(batch_size=2)
optim_wrapper = dict(
    type='mimseg.AmpOptimWrapper',
    optimizer=dict(type='AdamW', lr=1e-4, betas=(0.9, 0.999), weight_decay=0.05),
    constructor='mimseg.LayerDecayConstructor',
    paramwise_cfg=dict(layer_decay_rate=0.75),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-3, by_epoch=False, begin=0, end=500),
    dict(type='MultiStepLR', begin=0, end=12, milestones=[8, 11], gamma=0.1),
]
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=12)
auto_scale_lr = dict(base_batch_size=16)
