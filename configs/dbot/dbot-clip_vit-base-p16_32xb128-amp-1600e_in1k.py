# dBOT's symmetric system with a CLIP teacher: ViT-B/16 with CLIP ViT-B/16, 1600 epochs (arXiv 2209.03917;
# the official code, branch beit).
_base_ = ['../_base_/datasets/imagenet_mim.py', '../_base_/runtime/pretrain.py',
          '../_base_/runtime/common.py']

model = dict(
    type='mimseg.MaskedImageModeling',
    backbone=dict(
        type='mimseg.ViT', arch='base', img_size=224, patch_size=16, mask_mode='token',
        pos_embed='none', rel_pos_bias='shared', layer_scale=0.1, drop_path_rate=0.1,
        weight_init='beit'),
    masking=dict(type='mimseg.BlockMasking', ratio=78 / 196, min_patches=16),
    # every token through ln_post and the projection
    teacher=dict(
        type='mimseg.OpenCLIPTeacher', model='ViT-B-16-quickgelu', weights='hub:openai',
        output='proj'),
    normalization=dict(type='mimseg.NoNormalization'),
    head=dict(type='mimseg.LinearHead'),
    loss=dict(type='mimseg.CosineLoss', eps=1e-6),
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
