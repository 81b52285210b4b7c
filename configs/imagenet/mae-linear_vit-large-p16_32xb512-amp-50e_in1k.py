# Linear probe of a fixed ViT-L/16 with absolute positions, 50 epochs, which the official code says
# suffice for L and H (MAE, arXiv 2111.06377; FINETUNE.md, main_linprobe.py).
_base_ = './mae-linear_vit-base-p16_32xb512-amp-90e_in1k.py'

model = dict(
    backbone=dict(arch='large'), neck=dict(input_features=1024), head=dict(in_channels=1024))
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-4, begin=0, end=10, convert_to_iter_based=True),
    dict(
        type='CosineAnnealingLR', T_max=40, eta_min=0.0, begin=10, end=50,
        convert_to_iter_based=True),
]
train_cfg = dict(max_epochs=50)
