# Feature distillation ViT-B/16 from CLIP ViT-B/16, 300 epochs (arXiv 2205.14141): no mask, every token,
# CLS included. Numbers of the official code (SwinTransformer/Feature-Distillation, configs/pretrain and
# config.py), with its rule lr x batch / 512; the batch is its README's.
_base_ = ['../_base_/datasets/imagenet_mim.py', '../_base_/runtime/pretrain.py',
          '../_base_/runtime/common.py']

model = dict(
    type='mimseg.MaskedImageModeling',
    backbone=dict(
        type='mimseg.ViT', arch='base', img_size=224, patch_size=16, pos_embed='none',
        rel_pos_bias='shared', layer_scale=0.1, drop_path_rate=0.2, weight_init='beit'),
    masking=None,
    teacher=dict(
        type='mimseg.OpenCLIPTeacher', model='ViT-B-16-quickgelu', weights='hub:openai',
        output='post'),
    normalization=dict(type='mimseg.TokenLayerNorm', eps=1e-5),
    head=dict(type='mimseg.LinearHead'),
    loss=dict(type='mimseg.SmoothL1Loss', beta=2.0),
    positions='all',
    with_cls=True,
)
train_pipeline = [
    dict(type='mimseg.LoadImageFromFile'),
    dict(type='mimseg.MIMViews', student=dict(size=224),
         scale=(0.08, 1.0), flip_prob=0.5, interpolation='bilinear'),
]
train_dataloader = dict(batch_size=128, dataset=dict(pipeline=train_pipeline))
optim_wrapper = dict(
    type='mimseg.AmpOptimWrapper',
    optimizer=dict(type='AdamW', lr=3e-4 * 2048 / 512, betas=(0.9, 0.999), weight_decay=0.05),
    clip_grad=dict(max_norm=3.0),
    constructor='mimseg.LayerDecayConstructor',
    paramwise_cfg=dict(layer_decay_rate=1.0),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=5e-7 / 3e-4, begin=0, end=10, convert_to_iter_based=True),
    dict(
        type='CosineAnnealingLR', T_max=290, eta_min=5e-6 * 2048 / 512, begin=10, end=300,
        convert_to_iter_based=True),
]
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=300)
auto_scale_lr = dict(base_batch_size=2048)
