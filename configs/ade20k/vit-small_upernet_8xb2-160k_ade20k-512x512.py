# UperNet with ViT-S/16 on ADE20K, MAE-style. Ours: no source has numbers for ViT-S. Layer decay
# 0.75 is TinyMIM-B's; the rest is ViT-B's.
_base_ = './vit-base_upernet_8xb2-160k_ade20k-512x512.py'

model = dict(
    backbone=dict(arch='small'),
    neck=dict(in_channels=384),
    decode_head=dict(in_channels=[384] * 4, channels=384),
    auxiliary_head=dict(in_channels=384),
)
optim_wrapper = dict(paramwise_cfg=dict(layer_decay_rate=0.75))
