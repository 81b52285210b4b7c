# TinyMIM ViT-B/16 with a masked student, from MAE ViT-L/16 (arXiv 2301.01296, Table 12). Numbers of
# the official code; 100 epochs as the paper's ablations (section 4.2). Mask tokens at 75 % random
# patches are our choice.
_base_ = './tinymim_vit-base-p16_32xb128-amp-300e_in1k.py'

model = dict(
    backbone=dict(mask_mode='token'),
    masking=dict(_delete_=True, type='mimseg.RandomMasking', ratio=0.75),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-4, begin=0, end=15, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', T_max=85, begin=15, end=100, convert_to_iter_based=True),
]
train_cfg = dict(max_epochs=100)
