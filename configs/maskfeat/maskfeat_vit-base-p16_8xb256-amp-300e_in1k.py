# MaskFeat ViT-B/16, 300 epochs (arXiv 2112.09133): histograms of oriented gradients. Model and numbers
# of mmpretrain's maskfeat_vit-base-p16_8xb256-amp-coslr-300e_in1k.py. Ours: no weight decay on positions
# and CLS.
_base_ = ['../_base_/datasets/imagenet_mim.py', '../_base_/runtime/pretrain.py',
          '../_base_/runtime/common.py']

model = dict(
    type='mimseg.MaskedImageModeling',
    backbone=dict(
        type='mimseg.ViT', arch='base', img_size=224, patch_size=16, mask_mode='token',
        pos_embed='learned', weight_init='beit'),  # the initialization is our choice
    masking=dict(type='mimseg.BlockMasking', ratio=78 / 196, min_patches=15),
    teacher=dict(type='mimseg.HOGTeacher', nbins=9, pool=8, gaussian_window=16),
    normalization=dict(type='mimseg.NoNormalization'),  # each histogram has unit length already
    head=dict(type='mimseg.LinearHead'),
    loss=dict(type='mimseg.L2Loss'),
)
train_pipeline = [
    dict(type='mimseg.LoadImageFromFile'),
    dict(type='mimseg.MIMViews', student=dict(size=224),
         scale=(0.5, 1.0), flip_prob=0.5),
]
train_dataloader = dict(batch_size=256, dataset=dict(pipeline=train_pipeline))
optim_wrapper = dict(
    type='mimseg.AmpOptimWrapper',
    optimizer=dict(type='AdamW', lr=2e-4 * 8, betas=(0.9, 0.999), weight_decay=0.05),
    clip_grad=dict(max_norm=0.02),
    constructor='mimseg.LayerDecayConstructor',
    paramwise_cfg=dict(layer_decay_rate=1.0),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-6, begin=0, end=30, convert_to_iter_based=True),
    dict(
        type='CosineAnnealingLR', T_max=270, eta_min=1e-6, begin=30, end=300,
        convert_to_iter_based=True),
]
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=300)
auto_scale_lr = dict(base_batch_size=2048)
