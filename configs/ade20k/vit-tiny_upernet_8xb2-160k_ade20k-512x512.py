# UperNet with ViT-T/16 on ADE20K, MAE-style. Ours: no source has numbers for a plain ViT-T. Layer
# decay 0.8 is that of TinyMIM*-T, another backbone (12 heads, two tokens more); the rest is
# ViT-B's.
_base_ = './vit-base_upernet_8xb2-160k_ade20k-512x512.py'

model = dict(
    backbone=dict(arch='tiny'),
    neck=dict(in_channels=192),
    decode_head=dict(in_channels=[192] * 4, channels=192),
    auxiliary_head=dict(in_channels=192),
)
optim_wrapper = dict(paramwise_cfg=dict(layer_decay_rate=0.8))
