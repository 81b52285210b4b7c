# UperNet (arXiv 1807.10221) on a narrow mimseg.ViT with small patches: our numbers.
norm_cfg = dict(type='BN', requires_grad=True)
model = dict(
    type='mmseg.EncoderDecoder',
    data_preprocessor=dict(
        type='mmseg.SegDataPreProcessor',
        mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], bgr_to_rgb=True,
        pad_val=0, seg_pad_val=255, size=(64, 64)),
    backbone=dict(
        type='mimseg.ViT',
        arch='mini',
        img_size=64, patch_size=8, pos_embed='learned', out_indices=(2, 3, 4, 5),
        drop_path_rate=0.1, final_norm=False),
    neck=dict(
        type='mimseg.FeaturePyramid', in_channels=128, scales=(2, 1, 1, 0.5)),
    decode_head=dict(
        type='mmseg.UPerHead', in_channels=[128] * 4, in_index=[0, 1, 2, 3],
        pool_scales=(1, 2, 3, 6), channels=64, dropout_ratio=0.1, num_classes=10,
        norm_cfg=norm_cfg, align_corners=False,
        loss_decode=dict(type='mmseg.CrossEntropyLoss', use_sigmoid=False, loss_weight=1.0)),
    train_cfg=dict(),
    test_cfg=dict(mode='whole'),
)
