# UperNet (arXiv 1807.10221) with ViT-B/16 on ADE20K at 512 px, MAE-style: the loaded absolute positions,
# and beside them a relative position bias a block, from zero, and layer scale, from one, both new (mmseg's
# MAE; the official segmentation codes of dBOT and TinyMIM). Numbers of mmseg's
# mae-base_upernet_8xb2-amp-160k_ade20k-512x512.py (which, despite its name, runs in float32): 48.13 mIoU
# there with MAE's weights, 48.70 with scales and flips.
# The schedule is what the segmentation codes of BEiT, BEiT v2, dBOT and TinyMIM and mmseg's MAE and BEiT
# configs share: 160k iterations of 16 images, AdamW with layer decay, no clipping. Ours: float32 (dBOT's
# and TinyMIM's code takes float16; --amp gives bfloat16); no weight decay on position embeddings and CLS,
# which their code means to spare and does not (paramwise_cfg.decay_embeddings=True does as it does); images
# smaller than the window are padded to whole patches in tests.
_base_ = ['../_base_/datasets/ade20k_512.py', '../_base_/runtime/segmentation.py',
          '../_base_/runtime/common.py']

norm_cfg = dict(type='SyncBN', requires_grad=True)  # plain BN where one process trains
model = dict(
    type='mmseg.EncoderDecoder',
    data_preprocessor=dict(
        type='mmseg.SegDataPreProcessor',
        mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], bgr_to_rgb=True,
        pad_val=0, seg_pad_val=255, size=(512, 512), test_cfg=dict(size_divisor=16)),
    backbone=dict(
        type='mimseg.ViT', arch='base', img_size=512, patch_size=16, pos_embed='learned',
        rel_pos_bias='per_block', layer_scale=1.0, out_indices=(3, 5, 7, 11), drop_path_rate=0.1,
        final_norm=False),
    neck=dict(type='mimseg.FeaturePyramid', in_channels=768, scales=(4, 2, 1, 0.5), norm='SyncBN'),
    decode_head=dict(
        type='mmseg.UPerHead', in_channels=[768] * 4, in_index=[0, 1, 2, 3],
        pool_scales=(1, 2, 3, 6), channels=768, dropout_ratio=0.1, num_classes=150,
        norm_cfg=norm_cfg, align_corners=False,
        loss_decode=dict(type='mmseg.CrossEntropyLoss', use_sigmoid=False, loss_weight=1.0)),
    auxiliary_head=dict(
        type='mmseg.FCNHead', in_channels=768, in_index=2, channels=256, num_convs=1,
        concat_input=False, dropout_ratio=0.1, num_classes=150, norm_cfg=norm_cfg,
        align_corners=False,
        loss_decode=dict(type='mmseg.CrossEntropyLoss', use_sigmoid=False, loss_weight=0.4)),
    train_cfg=dict(),
    test_cfg=dict(mode='slide', crop_size=(512, 512), stride=(341, 341)),
)
train_dataloader = dict(batch_size=2)
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=1e-4, betas=(0.9, 0.999), weight_decay=0.05),
    constructor='mimseg.LayerDecayConstructor',
    paramwise_cfg=dict(layer_decay_rate=0.65),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-6, by_epoch=False, begin=0, end=1500),
    dict(type='PolyLR', power=1.0, eta_min=0.0, by_epoch=False, begin=1500, end=160000),
]
train_cfg = dict(type='IterBasedTrainLoop', max_iters=160000, val_interval=16000)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
default_hooks = dict(checkpoint=dict(interval=16000))
auto_scale_lr = dict(base_batch_size=16)
