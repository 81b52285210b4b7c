# dBOT ViT-H/14 with CLIP ViT-L/14, 1600 epochs (arXiv 2209.03917; the official code, branch beit).
_base_ = ['../_base_/models/dbot_clip.py', '../_base_/datasets/imagenet_mim.py',
          '../_base_/runtime/pretrain.py', '../_base_/runtime/common.py']

model = dict(
    # 0.1 for H/14 too: the official command does not change it
    backbone=dict(arch='huge', patch_size=14, layer_scale=0.1, drop_path_rate=0.1),
    masking=dict(ratio=78 / 256),  # the command's 78 patches, of 16x16 here
    teacher=dict(model='ViT-L-14-quickgelu'),  # 16x16 tokens at 224 px
)
train_pipeline = [
    dict(type='mimseg.LoadImageFromFile'),
    # jitter before the crop, so both see it
    dict(type='mimseg.MIMViews', student=dict(size=224),
         scale=(0.4, 1.0), flip_prob=0.5, color_jitter=0.4),
]
train_dataloader = dict(batch_size=128, dataset=dict(pipeline=train_pipeline))
optim_wrapper = dict(
    type='mimseg.AmpOptimWrapper',
    optimizer=dict(type='AdamW', lr=3e-3, betas=(0.9, 0.98), weight_decay=0.05, eps=1e-6),
    clip_grad=dict(max_norm=3.0),
    constructor='mimseg.LayerDecayConstructor',
    paramwise_cfg=dict(layer_decay_rate=1.0),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-4, begin=0, end=10, convert_to_iter_based=True),
    dict(
        type='CosineAnnealingLR', T_max=1590, eta_min=1e-5, begin=10, end=1600,
        convert_to_iter_based=True),
]
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=1600)
auto_scale_lr = dict(base_batch_size=4096)
