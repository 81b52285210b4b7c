# UperNet with ViT-H/14 on ADE20K, MAE-style. Ours: no source has numbers for ViT-H. Learning rate
# and layer decay are ViT-L's, drop path 0.3 is dBOT's in ImageNet fine-tuning, taps are the last
# block of each quarter. 518 px, 37 patches of 14, since 512 px are no whole number of patches; blocks are
# recomputed. Students with relative positions (MaskDistill's H) want model.backbone.pos_embed=none
# model.backbone.rel_pos_resize=geometric.
_base_ = './vit-base_upernet_8xb2-160k_ade20k-512x512.py'

model = dict(
    backbone=dict(
        arch='huge', img_size=518, patch_size=14, drop_path_rate=0.3, out_indices=(7, 15, 23, 31),
        activation_checkpointing=True),
    data_preprocessor=dict(size=(518, 518), test_cfg=dict(size_divisor=14)),
    neck=dict(in_channels=1280),
    decode_head=dict(in_channels=[1280] * 4, channels=1280),
    auxiliary_head=dict(in_channels=1280),
    test_cfg=dict(crop_size=(518, 518), stride=(345, 345)),
)
_base_.train_pipeline[2].scale = (2072, 518)  # RandomResize
_base_.train_pipeline[3].crop_size = (518, 518)
_base_.test_pipeline[1].scale = (2072, 518)  # Resize
tta_pipeline = [
    dict(type='mimseg.LoadImageFromFile', broken='raise'),
    dict(type='TestTimeAug', transforms=[
        [dict(type='Resize', scale=(int(ratio * 2072), int(ratio * 518)), keep_ratio=True)
         for ratio in (0.5, 0.75, 1.0, 1.25, 1.5, 1.75)],
        *_base_.tta_pipeline[1].transforms[1:],
    ]),
]
train_dataloader = dict(dataset=dict(pipeline=_base_.train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=_base_.test_pipeline))
test_dataloader = val_dataloader
optim_wrapper = dict(optimizer=dict(lr=3e-5), paramwise_cfg=dict(layer_decay_rate=0.95))
