# MAE ViT-B/16, 300 epochs (arXiv 2111.06377): pixels, dropped patches, a decoder, squared error. Numbers of
# mmpretrain's mae_vit-base-p16_8xb512-amp-coslr-300e_in1k.py.
_base_ = ['../_base_/datasets/imagenet_mim.py', '../_base_/runtime/pretrain.py',
          '../_base_/runtime/common.py']

model = dict(
    type='mimseg.MaskedImageModeling',
    backbone=dict(
        type='mimseg.ViT', arch='base', img_size=224, patch_size=16, mask_mode='drop',
        pos_embed='sincos'),
    masking=dict(type='mimseg.RandomMasking', ratio=0.75),
    teacher=dict(type='mimseg.PixelTeacher'),
    # section 4.1: pixels normalized in each patch; the official code's variance is unbiased
    normalization=dict(type='mimseg.TokenLayerNorm', unbiased=True),
    head=dict(type='mimseg.DecoderHead', embed_dims=512, depth=8, num_heads=16),
    loss=dict(type='mimseg.L2Loss'),
)
train_pipeline = [
    dict(type='mimseg.LoadImageFromFile'),
    dict(type='mimseg.MIMViews', student=dict(size=224), scale=(0.2, 1.0), flip_prob=0.5),
]
train_dataloader = dict(batch_size=512, dataset=dict(pipeline=train_pipeline))
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
