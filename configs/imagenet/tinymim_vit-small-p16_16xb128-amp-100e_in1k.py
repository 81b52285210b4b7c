# TinyMIM ViT-S/16 fine-tuned, 100 epochs (arXiv 2301.01296). Its authors say of S and T only that they
# had a larger batch and learning rate (TinyMIM's issue 5): the numbers are ours, those of B at twice
# the batch, with less drop path. All blocks have 6 heads; the last one had more in pretraining.
_base_ = './mae_vit-base-p16_32xb32-amp-100e_in1k.py'

model = dict(
    backbone=dict(arch='small'),
    head=dict(in_channels=384),
)
train_dataloader = dict(batch_size=128)
optim_wrapper = dict(optimizer=dict(lr=4e-3))  # blr 5e-4 x 2048 / 256
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-4, begin=0, end=5, convert_to_iter_based=True),
    dict(
        type='CosineAnnealingLR', T_max=95, eta_min_ratio=1e-6 / 4e-3, begin=5, end=100,
        convert_to_iter_based=True),
]
auto_scale_lr = dict(base_batch_size=2048)
