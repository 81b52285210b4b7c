# UperNet with ViT-L/16 on ADE20K, MAE-style. Numbers of dBOT's L (the official code,
# DOWNSTREAM.md), since MAE's own are not known. MAE searched the learning rate for each entry of
# its table.
_base_ = './vit-base_upernet_8xb2-160k_ade20k-512x512.py'

model = dict(
    backbone=dict(arch='large', drop_path_rate=0.2, out_indices=(7, 11, 15, 23)),
    neck=dict(in_channels=1024),
    decode_head=dict(in_channels=[1024] * 4, channels=1024),
    auxiliary_head=dict(in_channels=1024),
)
optim_wrapper = dict(optimizer=dict(lr=3e-5), paramwise_cfg=dict(layer_decay_rate=0.95))
