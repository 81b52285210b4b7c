# dBOT ViT-B/16 fine-tuned, 100 epochs (arXiv 2209.03917; the official code, branch main:
# DOWNSTREAM.md, run.sh, main_finetune.py).
_base_ = './mae_vit-base-p16_32xb32-amp-100e_in1k.py'

model = dict(head=dict(init_cfg=dict(std=0.01)))  # MAE's head is drawn with 2e-5
optim_wrapper = dict(optimizer=dict(lr=1.2e-3))  # blr 3e-4 x 1024 / 256
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-4, begin=0, end=5, convert_to_iter_based=True),
    dict(
        type='CosineAnnealingLR', T_max=95, eta_min_ratio=1e-6 / 1.2e-3, begin=5, end=100,
        convert_to_iter_based=True),
]
