# TinyMIM ViT-B/16 on features, not relations, from MAE ViT-L/16 (arXiv 2301.01296, Eq. 7 and 8).
# Numbers of the official code; 100 epochs as the paper's ablations (section 4.2). That CLS counts
# is our choice.
_base_ = './tinymim_vit-base-p16_32xb128-amp-300e_in1k.py'

model = dict(
    backbone=dict(last_block_heads=None),
    normalization=dict(_delete_=True, type='mimseg.TokenLayerNorm', layers=(17,)),  # the 18th of 24
    head=dict(_delete_=True, type='mimseg.LinearHead'),
    loss=dict(_delete_=True, type='mimseg.SmoothL1Loss', beta=2.0),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-4, begin=0, end=15, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', T_max=85, begin=15, end=100, convert_to_iter_based=True),
]
train_cfg = dict(max_epochs=100)
