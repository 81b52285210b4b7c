# dBOT ViT-B/16 fine-tuned, 100 epochs (arXiv 2209.03917; the official code, branch main:
# DOWNSTREAM.md, run.sh, main_finetune.py).
# Its head is drawn with 0.01, MAE's with 2e-5. Mixup, smoothing and augmentation are in the bases.
_base_ = ['../_base_/models/classifier_mae.py', '../_base_/datasets/imagenet_cls.py',
          '../_base_/runtime/pretrain.py', '../_base_/runtime/common.py']

model = dict(
    backbone=dict(drop_path_rate=0.1),
    head=dict(init_cfg=dict(std=0.01)),
)
train_dataloader = dict(batch_size=32)
optim_wrapper = dict(
    type='mimseg.AmpOptimWrapper',
    # blr 3e-4 x 1024 / 256, no clipping
    optimizer=dict(type='AdamW', lr=1.2e-3, betas=(0.9, 0.999), weight_decay=0.05),
    constructor='mimseg.LayerDecayConstructor',
    paramwise_cfg=dict(layer_decay_rate=0.65),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-4, begin=0, end=5, convert_to_iter_based=True),
    # ends at 1e-6 x the layer's scale; an absolute eta_min would lift the lower layers
    dict(
        type='CosineAnnealingLR', T_max=95, eta_min_ratio=1e-6 / 1.2e-3, begin=5, end=100,
        convert_to_iter_based=True),
]
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=100)
auto_scale_lr = dict(base_batch_size=1024)
