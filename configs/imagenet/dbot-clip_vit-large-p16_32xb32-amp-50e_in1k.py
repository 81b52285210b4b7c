# dBOT ViT-L/16 with CLIP, fine-tuned, 50 epochs (arXiv 2209.03917; the official code, branch beit:
# DOWNSTREAM.md, run.sh, run_finetune.py).
_base_ = './maskdistill_vit-base-p16_8xb128-amp-100e_in1k.py'

model = dict(
    backbone=dict(arch='large', drop_path_rate=0.2),
    head=dict(in_channels=1024),
)
train_dataloader = dict(batch_size=32)
optim_wrapper = dict(optimizer=dict(lr=1e-4), paramwise_cfg=dict(layer_decay_rate=0.8))
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-4, begin=0, end=5, convert_to_iter_based=True),
    dict(
        type='CosineAnnealingLR', T_max=45, eta_min_ratio=1e-6 / 1e-4, begin=5, end=50,
        convert_to_iter_based=True),
]
train_cfg = dict(max_epochs=50)
