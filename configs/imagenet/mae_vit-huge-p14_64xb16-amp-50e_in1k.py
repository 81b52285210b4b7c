# MAE ViT-H/14 fine-tuned, 50 epochs (arXiv 2111.06377; the official code, FINETUNE.md).
_base_ = './mae_vit-base-p16_32xb32-amp-100e_in1k.py'

model = dict(
    backbone=dict(arch='huge', patch_size=14, drop_path_rate=0.3),
    head=dict(in_channels=1280),
)
train_dataloader = dict(batch_size=16)
optim_wrapper = dict(optimizer=dict(lr=4e-3), paramwise_cfg=dict(layer_decay_rate=0.75))  # blr 1e-3 x 1024 / 256
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-4, begin=0, end=5, convert_to_iter_based=True),
    dict(
        type='CosineAnnealingLR', T_max=45, eta_min_ratio=1e-6 / 4e-3, begin=5, end=50,
        convert_to_iter_based=True),
]
train_cfg = dict(max_epochs=50)
