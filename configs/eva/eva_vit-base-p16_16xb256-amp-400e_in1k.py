# EVA-style CLIP regression, ViT-B/16, 400 epochs (arXiv 2211.07636). Numbers of mmpretrain's
# eva-mae-style_vit-base-p16_16xb256-coslr-400e_in1k.py, which trains in float32; bfloat16 is ours.
_base_ = ['../_base_/models/eva.py', '../_base_/datasets/imagenet_mim.py',
          '../_base_/runtime/pretrain.py', '../_base_/runtime/common.py']

model = dict(
    masking=dict(ratio=0.75),
    head=dict(embed_dims=512, depth=8, num_heads=16),
)
train_dataloader = dict(batch_size=256)
optim_wrapper = dict(
    type='mimseg.AmpOptimWrapper',
    optimizer=dict(type='AdamW', lr=1.5e-4 * 4096 / 256, betas=(0.9, 0.95), weight_decay=0.05),
    constructor='mimseg.LayerDecayConstructor',
    paramwise_cfg=dict(layer_decay_rate=1.0),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-4, begin=0, end=40, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', T_max=360, begin=40, end=400, convert_to_iter_based=True),
]
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=400)
auto_scale_lr = dict(base_batch_size=4096)
