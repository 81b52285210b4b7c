# SimMIM ViT-B/16, 800 epochs (arXiv 2111.09886): raw pixels, mask tokens, a linear head, absolute error.
# The ViT of the official code (mmpretrain has the Swin variant) and its numbers (microsoft/SimMIM,
# configs/vit_base__800ep), with its rule lr x batch / 512; the batch is its README's.
_base_ = ['../_base_/datasets/imagenet_mim.py', '../_base_/runtime/pretrain.py',
          '../_base_/runtime/common.py']

model = dict(
    type='mimseg.MaskedImageModeling',
    backbone=dict(
        type='mimseg.ViT', arch='base', img_size=224, patch_size=16, mask_mode='token',
        pos_embed='none', rel_pos_bias='shared', layer_scale=0.1, drop_path_rate=0.1,
        weight_init='beit'),
    # section 3.2: squares of 32 pixels are masked as a whole, 30 of 49
    masking=dict(type='mimseg.RandomMasking', ratio=0.6, unit=2),
    teacher=dict(type='mimseg.PixelTeacher'),
    normalization=dict(type='mimseg.NoNormalization'),
    head=dict(type='mimseg.LinearHead'),
    loss=dict(type='mimseg.L1Loss'),
)
train_pipeline = [
    dict(type='mimseg.LoadImageFromFile'),
    dict(type='mimseg.MIMViews', student=dict(size=224),
         scale=(0.67, 1.0), flip_prob=0.5, interpolation='bilinear'),
]
train_dataloader = dict(batch_size=128, dataset=dict(pipeline=train_pipeline))
optim_wrapper = dict(
    type='mimseg.AmpOptimWrapper',
    optimizer=dict(type='AdamW', lr=1e-4 * 2048 / 512, betas=(0.9, 0.999), weight_decay=0.05),
    clip_grad=dict(max_norm=5.0),
    constructor='mimseg.LayerDecayConstructor',
    paramwise_cfg=dict(layer_decay_rate=1.0),
)
param_scheduler = [
    dict(
        type='LinearLR', start_factor=5e-7 / 1e-4, begin=0, end=10, convert_to_iter_based=True),
    dict(
        type='MultiStepLR', milestones=[700], gamma=0.1, begin=10, end=800,
        convert_to_iter_based=True),
]
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=800)
auto_scale_lr = dict(base_batch_size=2048)
