# dBOT (arXiv 2209.03917) at demo size, two stages: our numbers, chosen for two CPU cores.
_base_ = ['../_base_/datasets/scenes_mim.py', '../_base_/schedules/mim_small.py',
          '../_base_/runtime/pretrain.py', '../_base_/runtime/common.py']

model = dict(
    type='mimseg.MaskedImageModeling',
    backbone=dict(
        type='mimseg.ViT', arch='mini', img_size=64, patch_size=8, mask_mode='drop',
        pos_embed='sincos', drop_path_rate=0.0),
    masking=dict(type='mimseg.RandomMasking', ratio=0.75),
    teacher=dict(type='mimseg.ViTTeacher', init='student', final_norm=False),
    normalization=dict(type='mimseg.TokenLayerNorm', unbiased=True, eps=1e-6),
    head=dict(type='mimseg.DecoderHead', embed_dims=96, depth=1, num_heads=4, drop_path_rate=0.0),
    loss=dict(type='mimseg.SmoothL1Loss', beta=2.0),
    with_cls=True,
)
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-3, begin=0, end=1, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', begin=1, end=20, convert_to_iter_based=True),
]
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=20)
stages = [
    dict(name='stage1'),
    dict(name='stage2', teacher='stage1'),
]
