# A slim Mask R-CNN (arXiv 1703.06870) on a narrow mimseg.ViT with small patches: our numbers.
# Three levels of strides 4, 8 and 16, anchors of 16, 32 and 64 pixels, 64 channels.
anchors = dict(
    type='mmdet.AnchorGenerator', scales=[4], ratios=[0.5, 1.0, 2.0], strides=[4, 8, 16])
match = dict(
    type='mmdet.MaxIoUAssigner', pos_iou_thr=0.5, neg_iou_thr=0.5, min_pos_iou=0.5,
    match_low_quality=True, ignore_iof_thr=-1)
model = dict(
    type='mmdet.MaskRCNN',
    data_preprocessor=dict(
        type='mmdet.DetDataPreprocessor',
        mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], bgr_to_rgb=True,
        pad_mask=True, pad_size_divisor=16),
    backbone=dict(
        type='mimseg.ViT',
        arch='mini',
        img_size=64, patch_size=8, pos_embed='learned', out_indices=(5,), drop_path_rate=0.1),
    neck=dict(
        type='mimseg.SimpleFeaturePyramid', in_channels=128, out_channels=64, scales=(2, 1, 0.5)),
    rpn_head=dict(
        type='mmdet.RPNHead', in_channels=64, feat_channels=64, anchor_generator=anchors,
        bbox_coder=dict(
            type='mmdet.DeltaXYWHBBoxCoder', target_means=[0.0] * 4, target_stds=[1.0] * 4),
        loss_cls=dict(type='mmdet.CrossEntropyLoss', use_sigmoid=True, loss_weight=1.0),
        loss_bbox=dict(type='mmdet.L1Loss', loss_weight=1.0)),
    roi_head=dict(
        type='mmdet.StandardRoIHead',
        bbox_roi_extractor=dict(
            type='mmdet.SingleRoIExtractor', out_channels=64, featmap_strides=[4, 8, 16],
            finest_scale=16, roi_layer=dict(type='RoIAlign', output_size=7, sampling_ratio=1)),
        bbox_head=dict(
            type='mmdet.Shared2FCBBoxHead', in_channels=64, fc_out_channels=128, roi_feat_size=7,
            num_classes=8, reg_class_agnostic=True,
            bbox_coder=dict(
                type='mmdet.DeltaXYWHBBoxCoder', target_means=[0.0] * 4,
                target_stds=[0.1, 0.1, 0.2, 0.2]),
            loss_cls=dict(type='mmdet.CrossEntropyLoss', use_sigmoid=False, loss_weight=1.0),
            loss_bbox=dict(type='mmdet.L1Loss', loss_weight=1.0)),
        mask_roi_extractor=dict(
            type='mmdet.SingleRoIExtractor', out_channels=64, featmap_strides=[4, 8, 16],
            finest_scale=16, roi_layer=dict(type='RoIAlign', output_size=7, sampling_ratio=1)),
        mask_head=dict(
            type='mmdet.FCNMaskHead', num_convs=2, in_channels=64, roi_feat_size=7, conv_out_channels=64,
            num_classes=8,
            loss_mask=dict(type='mmdet.CrossEntropyLoss', use_mask=True, loss_weight=1.0))),
    train_cfg=dict(
        rpn=dict(
            assigner={**match, 'pos_iou_thr': 0.7, 'neg_iou_thr': 0.3, 'min_pos_iou': 0.3},
            sampler=dict(type='mmdet.RandomSampler', num=64, pos_fraction=0.5, neg_pos_ub=-1,
                         add_gt_as_proposals=False),
            allowed_border=-1, pos_weight=-1, debug=False),
        rpn_proposal=dict(
            nms_pre=200, max_per_img=100, nms=dict(type='nms', iou_threshold=0.7), min_bbox_size=0),
        rcnn=dict(
            assigner=match,
            sampler=dict(type='mmdet.RandomSampler', num=32, pos_fraction=0.25, neg_pos_ub=-1,
                         add_gt_as_proposals=True),
            mask_size=14, pos_weight=-1, debug=False)),
    test_cfg=dict(
        rpn=dict(
            nms_pre=200, max_per_img=100, nms=dict(type='nms', iou_threshold=0.7), min_bbox_size=0),
        rcnn=dict(
            score_thr=0.05, nms=dict(type='nms', iou_threshold=0.5), max_per_img=50,
            mask_thr_binary=0.5)),
)
