# EVA-style CLIP regression with MAE's student and decoder, ViT-B/16, 400 epochs (arXiv 2211.07636). Model
# and numbers of mmpretrain's eva-mae-style_vit-base-p16_16xb256-coslr-400e_in1k.py, which trains in float32;
# bfloat16 is ours.
_base_ = ['../_base_/datasets/imagenet_mim.py', '../_base_/runtime/pretrain.py',
          '../_base_/runtime/common.py']

model = dict(
    type='mimseg.MaskedImageModeling',
    backbone=dict(
        type='mimseg.ViT', arch='base', img_size=224, patch_size=16, mask_mode='drop',
        pos_embed='sincos'),
    masking=dict(type='mimseg.RandomMasking', ratio=0.75),
    # with CLIP's own mean and std, where mmpretrain feeds it ImageNet's
    teacher=dict(
        type='mimseg.OpenCLIPTeacher', model='ViT-B-16-quickgelu', weights='hub:openai',
        output='proj'),
    normalization=dict(type='mimseg.NoNormalization'),
    head=dict(type='mimseg.DecoderHead', embed_dims=512, depth=8, num_heads=16),
    loss=dict(type='mimseg.CosineLoss', scale=2.0),
)
train_pipeline = [
    dict(type='mimseg.LoadImageFromFile'),
    dict(type='mimseg.MIMViews', student=dict(size=224), scale=(0.2, 1.0), flip_prob=0.5),
]
train_dataloader = dict(batch_size=256, dataset=dict(pipeline=train_pipeline))
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
