# MaskDistill ViT-L/16 with CLIP ViT-B/16, 300 epochs (arXiv 2210.10615). Numbers of BEiT v2's large
# recipe (microsoft/unilm, beit2/PRETRAINING.md), which the author names as the base; MaskDistill's
# own numbers are not known, so this is our choice.
_base_ = ['../_base_/models/maskdistill.py', '../_base_/datasets/imagenet_mim.py',
          '../_base_/runtime/pretrain.py', '../_base_/runtime/common.py']

model = dict(
    backbone=dict(arch='large', layer_scale=1e-5, drop_path_rate=0.0),
    masking=dict(ratio=0.4),  # 78 of 196
)
train_pipeline = [
    dict(type='mimseg.LoadImageFromFile'),
    # BEiT v2: jitter before the crop, so both see it
    dict(type='mimseg.MIMViews', student=dict(size=224),
         scale=(0.2, 1.0), flip_prob=0.5, color_jitter=0.4),
]
train_dataloader = dict(batch_size=64, dataset=dict(pipeline=train_pipeline))
optim_wrapper = dict(
    type='mimseg.AmpOptimWrapper',
    # BEiT v2, PRETRAINING.md, for 300 epochs
    optimizer=dict(type='AdamW', lr=1.5e-3, betas=(0.9, 0.98), weight_decay=0.05),
    clip_grad=dict(max_norm=3.0),
    constructor='mimseg.LayerDecayConstructor',
    paramwise_cfg=dict(layer_decay_rate=1.0),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-4, begin=0, end=10, convert_to_iter_based=True),
    dict(
        type='CosineAnnealingLR', T_max=290, eta_min=1e-5, begin=10, end=300,
        convert_to_iter_based=True),
]
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=300)
auto_scale_lr = dict(base_batch_size=2048)
