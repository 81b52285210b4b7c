# dBOT ViT-B/16 with CLIP, fine-tuned, 100 epochs (arXiv 2209.03917; the official code, branch beit:
# DOWNSTREAM.md, run.sh, run_finetune.py).
_base_ = './maskdistill_vit-base-p16_8xb128-amp-100e_in1k.py'

train_dataloader = dict(batch_size=32)
optim_wrapper = dict(optimizer=dict(lr=2e-4))
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-4, begin=0, end=20, convert_to_iter_based=True),
    dict(
        type='CosineAnnealingLR', T_max=80, eta_min_ratio=1e-6 / 2e-4, begin=20, end=100,
        convert_to_iter_based=True),
]
