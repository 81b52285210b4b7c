# MAE ViT-B/16. Numbers of mmpretrain's mae_vit-base-p16_8xb512-amp-coslr-300e_in1k.py;
# the method is arXiv 2111.06377.
_base_ = ['../_base_/models/mae.py', '../_base_/datasets/imagenet_mim.py',
          '../_base_/runtime/pretrain.py', '../_base_/runtime/common.py']

optim_wrapper = dict(
    type='mimseg.AmpOptimWrapper',
    optimizer=dict(type='AdamW', lr=1.5e-4 * 4096 / 256, betas=(0.9, 0.95), weight_decay=0.05),
    constructor='mimseg.LayerDecayConstructor',
    paramwise_cfg=dict(layer_decay_rate=1.0),  # no weight decay on norms, biases and tokens
)
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-4, begin=0, end=40, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', T_max=260, begin=40, end=300, convert_to_iter_based=True),
]
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=300)
auto_scale_lr = dict(base_batch_size=4096)
