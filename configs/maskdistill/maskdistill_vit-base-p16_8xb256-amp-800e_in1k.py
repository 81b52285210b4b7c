# MaskDistill ViT-B/16 with CLIP ViT-B/16, 800 epochs (arXiv 2210.10615). Numbers of BEiT v2's base
# recipe (microsoft/unilm, beit2/PRETRAINING.md), drop path and beta2 those of its 1600 epochs: our choice.
_base_ = './maskdistill_vit-base-p16_8xb256-amp-300e_in1k.py'

model = dict(backbone=dict(drop_path_rate=0.1))
optim_wrapper = dict(optimizer=dict(betas=(0.9, 0.999)))
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-4, begin=0, end=10, convert_to_iter_based=True),
    dict(
        type='CosineAnnealingLR', T_max=790, eta_min=1e-5, begin=10, end=800,
        convert_to_iter_based=True),
]
train_cfg = dict(max_epochs=800)
