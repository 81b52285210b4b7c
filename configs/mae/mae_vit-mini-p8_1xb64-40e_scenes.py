# MAE (arXiv 2111.06377) at demo size: our numbers, chosen for two CPU cores.
_base_ = ['../_base_/datasets/scenes_mim.py', '../_base_/schedules/mim_small.py',
          '../_base_/runtime/pretrain.py', '../_base_/runtime/common.py']

model = dict(
    type='mimseg.MaskedImageModeling',
    backbone=dict(
        type='mimseg.ViT', arch='mini', img_size=64, patch_size=8, mask_mode='drop',
        pos_embed='sincos'),
    masking=dict(type='mimseg.RandomMasking', ratio=0.75),
    teacher=dict(type='mimseg.PixelTeacher'),
    normalization=dict(type='mimseg.TokenLayerNorm', unbiased=True),
    head=dict(type='mimseg.DecoderHead', embed_dims=96, depth=1, num_heads=4),
    loss=dict(type='mimseg.L2Loss'),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-3, begin=0, end=1, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', begin=1, end=40, convert_to_iter_based=True),
]
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=40)
