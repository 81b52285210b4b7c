# UperNet with ViT-L/16 on ADE20K, BEiT-style. Numbers of BEiT v2's large (microsoft/unilm,
# beit2/semantic_segmentation).
_base_ = ['../_base_/models/upernet_vit-base-beit.py', '../_base_/datasets/ade20k_512.py',
          '../_base_/schedules/ade20k_160k.py', '../_base_/runtime/common.py']

model = dict(
    backbone=dict(
        arch='large', drop_path_rate=0.2, layer_scale=1e-6, out_indices=(7, 11, 15, 23)),
    neck=dict(in_channels=1024),
    decode_head=dict(in_channels=[1024] * 4, channels=1024),
    auxiliary_head=dict(in_channels=1024),
    test_cfg=dict(mode='slide', crop_size=(512, 512), stride=(341, 341)),
)
train_dataloader = dict(batch_size=2)
optim_wrapper = dict(
    optimizer=dict(type='AdamW', lr=4e-5, betas=(0.9, 0.999), weight_decay=0.05),
    paramwise_cfg=dict(layer_decay_rate=0.9),
)
