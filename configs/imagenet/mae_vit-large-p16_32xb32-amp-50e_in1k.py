# MAE ViT-L/16 fine-tuned, 50 epochs (arXiv 2111.06377; the official code, FINETUNE.md).
# Mixup, smoothing and augmentation are in the bases.
_base_ = ['../_base_/models/classifier_mae.py', '../_base_/datasets/imagenet_cls.py',
          '../_base_/runtime/pretrain.py', '../_base_/runtime/common.py']

model = dict(
    backbone=dict(arch='large', drop_path_rate=0.2),
    head=dict(in_channels=1024),
)
train_dataloader = dict(batch_size=32)
optim_wrapper = dict(
    type='mimseg.AmpOptimWrapper',
    # blr 1e-3 x 1024 / 256, no clipping
    optimizer=dict(type='AdamW', lr=4e-3, betas=(0.9, 0.999), weight_decay=0.05),
    constructor='mimseg.LayerDecayConstructor',
    paramwise_cfg=dict(layer_decay_rate=0.75),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-4, begin=0, end=5, convert_to_iter_based=True),
    # ends at 1e-6 x the layer's scale; an absolute eta_min would lift the lower layers
    dict(
        type='CosineAnnealingLR', T_max=45, eta_min_ratio=1e-6 / 4e-3, begin=5, end=50,
        convert_to_iter_based=True),
]
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=50)
auto_scale_lr = dict(base_batch_size=1024)
