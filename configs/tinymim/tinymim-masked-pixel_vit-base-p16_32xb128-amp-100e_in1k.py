# TinyMIM ViT-B/16 with a masked student and pixels as an auxiliary target, from MAE ViT-L/16
# (arXiv 2301.01296, Table 12). Numbers of the official code; 100 epochs as the paper's ablations
# (section 4.2). Mask tokens at 75 % random patches, MAE's target and decoder and equal weights are
# our choice.
_base_ = './tinymim_vit-base-p16_32xb128-amp-300e_in1k.py'

model = dict(
    _delete_=True, type='mimseg.MaskedImageModeling',
    backbone=dict(
        type='mimseg.ViT', arch='base', img_size=224, patch_size=16, mask_mode='token',
        pos_embed='sincos', drop_path_rate=0.1, drop_path_schedule='constant', last_block_heads=16),
    masking=dict(type='mimseg.RandomMasking', ratio=0.75),
    teachers=dict(
        mae=dict(type='mimseg.TimmTeacher', model='vit_large_patch16_224.mae', weights='hub'),
        pixels=dict(type='mimseg.PixelTeacher')),
    objectives=[
        dict(
            name='relation', teacher='mae', positions='all', with_cls=True,
            normalization=dict(type='mimseg.Relations', relations=('qk', 'vv'), layer=17),
            head=dict(type='mimseg.RelationHead', relations=('qk', 'vv')),
            loss=dict(type='mimseg.RelationKLLoss'), weight=1.0),
        dict(
            name='pixel', teacher='pixels',
            normalization=dict(type='mimseg.TokenLayerNorm', unbiased=True),
            head=dict(type='mimseg.DecoderHead', embed_dims=512, depth=8, num_heads=16),
            loss=dict(type='mimseg.L2Loss'), weight=1.0),
    ],
)
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-4, begin=0, end=15, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', T_max=85, begin=15, end=100, convert_to_iter_based=True),
]
train_cfg = dict(max_epochs=100)
