# UperNet (arXiv 1807.10221) with ViT-B/16 at 512 px, in the way of MAE's segmentation: the loaded
# absolute positions, and beside them a relative position bias a block, from zero, and layer scale,
# from one, both new (mmseg's MAE; the official segmentation codes of dBOT and TinyMIM). BEiT-like
# checkpoints bring biases and layer scale of their own. Ours: images smaller than the window are
# padded to whole patches in tests.
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
