# UperNet with dBOT's ViT-L/16 on ADE20K. Numbers of the official code (DOWNSTREAM.md, which is
# right where its config file differs: learning rate 2e-5 there). 54.5 mIoU is published.
_base_ = './vit-base_upernet_8xb2-160k_ade20k-512x512.py'

model = dict(
    backbone=dict(arch='large', drop_path_rate=0.2, out_indices=(7, 11, 15, 23)),
    neck=dict(in_channels=1024),
    decode_head=dict(in_channels=[1024] * 4, channels=1024),
    auxiliary_head=dict(in_channels=1024),
)
optim_wrapper = dict(optimizer=dict(lr=3e-5), paramwise_cfg=dict(layer_decay_rate=0.95))
