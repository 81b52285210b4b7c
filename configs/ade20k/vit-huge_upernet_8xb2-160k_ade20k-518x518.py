# UperNet with ViT-H/14 on ADE20K, MAE-style. Ours: no source has numbers for ViT-H. Learning rate
# and layer decay are ViT-L's, drop path 0.3 is dBOT's in ImageNet fine-tuning, taps are the last
# block of each quarter. 518 px, since 512 px are no whole number of patches; blocks are recomputed.
# Students with relative positions (MaskDistill's H) want model.backbone.pos_embed=none
# model.backbone.rel_pos_resize=geometric.
_base_ = ['../_base_/models/upernet_vit-base.py', '../_base_/datasets/ade20k_518.py',
          '../_base_/schedules/ade20k_160k.py', '../_base_/runtime/common.py']

model = dict(
    backbone=dict(
        arch='huge', img_size=518, patch_size=14, drop_path_rate=0.3, layer_scale=1.0,
        out_indices=(7, 15, 23, 31), activation_checkpointing=True),
    data_preprocessor=dict(size=(518, 518), test_cfg=dict(size_divisor=14)),
    neck=dict(in_channels=1280),
    decode_head=dict(in_channels=[1280] * 4, channels=1280),
    auxiliary_head=dict(in_channels=1280),
    test_cfg=dict(mode='slide', crop_size=(518, 518), stride=(345, 345)),
)
train_dataloader = dict(batch_size=2)
optim_wrapper = dict(
    optimizer=dict(type='AdamW', lr=3e-5, betas=(0.9, 0.999), weight_decay=0.05),
    paramwise_cfg=dict(layer_decay_rate=0.95),
)
