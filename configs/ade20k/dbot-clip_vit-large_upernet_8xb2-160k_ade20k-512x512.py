# UperNet with dBOT's ViT-L/16 of a CLIP teacher on ADE20K, iBOT's lineage. Numbers of
# DOWNSTREAM.md, which is right where the config file differs (2e-5, layer decay 0.95, drop path
# 0.2). 56.2 mIoU is published. Checkpoints of configs/dbot have the same layer scale, 0.1 at first,
# which is loaded over this one.
_base_ = './vit-base_upernet_8xb2-160k_ade20k-512x512.py'

model = dict(
    backbone=dict(  # as vit-base-beit has it
        arch='large', pos_embed='none', rel_pos_resize='geometric', layer_scale=1e-5,
        out_indices=(7, 11, 15, 23)),
    neck=dict(in_channels=1024),
    decode_head=dict(in_channels=[1024] * 4, channels=1024),
    auxiliary_head=dict(in_channels=1024),
)
optim_wrapper = dict(optimizer=dict(lr=9e-6), paramwise_cfg=dict(layer_decay_rate=0.9))
