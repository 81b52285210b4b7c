# UperNet with dBOT's ViT-L/16 of a CLIP teacher on ADE20K, iBOT's lineage. Numbers of
# DOWNSTREAM.md, which is right where the config file differs (2e-5, layer decay 0.95, drop path
# 0.2). 56.2 mIoU is published. Checkpoints of configs/dbot have the same layer scale, 0.1 at first,
# which is loaded over this one.
_base_ = ['../_base_/models/upernet_vit-base-beit.py', '../_base_/datasets/ade20k_512.py',
          '../_base_/schedules/ade20k_160k.py', '../_base_/runtime/common.py']

model = dict(
    backbone=dict(
        arch='large', drop_path_rate=0.1, layer_scale=1e-5, out_indices=(7, 11, 15, 23)),
    neck=dict(in_channels=1024),
    decode_head=dict(in_channels=[1024] * 4, channels=1024),
    auxiliary_head=dict(in_channels=1024),
    test_cfg=dict(mode='slide', crop_size=(512, 512), stride=(341, 341)),
)
train_dataloader = dict(batch_size=2)
optim_wrapper = dict(
    optimizer=dict(type='AdamW', lr=9e-6, betas=(0.9, 0.999), weight_decay=0.05),
    paramwise_cfg=dict(layer_decay_rate=0.9),
)
