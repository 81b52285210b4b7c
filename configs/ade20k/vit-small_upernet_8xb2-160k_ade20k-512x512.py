# UperNet with ViT-S/16 on ADE20K, MAE-style. Ours: no source has numbers for ViT-S. Layer decay
# 0.75 is TinyMIM-B's; the rest is ViT-B's.
_base_ = ['../_base_/models/upernet_vit-base.py', '../_base_/datasets/ade20k_512.py',
          '../_base_/schedules/ade20k_160k.py', '../_base_/runtime/common.py']

model = dict(
    backbone=dict(
        arch='small', drop_path_rate=0.1, layer_scale=1.0, out_indices=(3, 5, 7, 11)),
    neck=dict(in_channels=384),
    decode_head=dict(in_channels=[384] * 4, channels=384),
    auxiliary_head=dict(in_channels=384),
    test_cfg=dict(mode='slide', crop_size=(512, 512), stride=(341, 341)),
)
train_dataloader = dict(batch_size=2)
optim_wrapper = dict(
    optimizer=dict(type='AdamW', lr=1e-4, betas=(0.9, 0.999), weight_decay=0.05),
    paramwise_cfg=dict(layer_decay_rate=0.75),
)
