# data2vec ViT-B/16 for images, 800 epochs (arXiv 2202.03555): the average of the last six blocks of the
# student's own moving average. Numbers of the official code (facebookresearch/data2vec_vision,
# beit/README.md), whose attention dropout of 0.05 is left out. ViT-L continues with a momentum of 0.9999
# after 800 epochs.
_base_ = ['../_base_/datasets/imagenet_mim.py', '../_base_/runtime/pretrain.py',
          '../_base_/runtime/common.py']

model = dict(
    type='mimseg.MaskedImageModeling',
    backbone=dict(
        type='mimseg.ViT', arch='base', img_size=224, patch_size=16, mask_mode='token',
        pos_embed='none', rel_pos_bias='shared', layer_scale=1e-4, drop_path_rate=0.25,
        weight_init='beit'),
    masking=dict(type='mimseg.BlockMasking', ratio=120 / 196, min_patches=16),
    teacher=dict(type='mimseg.EMATeacher', momentum=0.9998),
    # each block's output is normalized, then their average
    normalization=dict(
        type='mimseg.TokenLayerNorm', layers=(-6, -5, -4, -3, -2, -1), eps=1e-5, final=True),
    head=dict(type='mimseg.LinearHead'),
    loss=dict(type='mimseg.SmoothL1Loss', beta=2.0),
)
custom_hooks = [dict(type='mimseg.TeacherUpdateHook')]
train_pipeline = [
    dict(type='mimseg.LoadImageFromFile'),
    dict(type='mimseg.MIMViews', student=dict(size=224),
         scale=(0.08, 1.0), flip_prob=0.5, color_jitter=0.4),
]
train_dataloader = dict(batch_size=128, dataset=dict(pipeline=train_pipeline))
optim_wrapper = dict(
    type='mimseg.AmpOptimWrapper',
    optimizer=dict(type='AdamW', lr=2e-3, betas=(0.9, 0.999), weight_decay=0.05),
    clip_grad=dict(max_norm=3.0),
    constructor='mimseg.LayerDecayConstructor',
    paramwise_cfg=dict(layer_decay_rate=1.0),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-4, begin=0, end=10, convert_to_iter_based=True),
    dict(
        type='CosineAnnealingLR', T_max=790, eta_min=1e-5, begin=10, end=800,
        convert_to_iter_based=True),
]
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=800)
auto_scale_lr = dict(base_batch_size=2048)
