# Cascade Mask R-CNN (arXiv 1906.09756) as iBOT and dBOT have it: RPN and matching of mmdet's
# cascade-mask-rcnn_r50_fpn.py, four convolutions with SyncBN and one layer in the box heads, GIoU on
# decoded boxes. One process without others trains with plain BN.
_base_ = ['./mask-rcnn_vit-fpn.py']
model = dict(
    type='CascadeRCNN',
    neck=[
        dict(type='mimseg.FeaturePyramid', in_channels=768, scales=(4, 2, 1, 0.5), norm='SyncBN'),
        dict(type='FPN', in_channels=[768] * 4, out_channels=256, num_outs=5)],
    rpn_head=dict(
        loss_bbox=dict(_delete_=True, type='SmoothL1Loss', beta=1.0 / 9.0, loss_weight=1.0)),
    roi_head=dict(
        type='CascadeRoIHead', num_stages=3, stage_loss_weights=[1, 0.5, 0.25],
        bbox_head=[
            dict(
                type='ConvFCBBoxHead', num_shared_convs=4, num_shared_fcs=1, in_channels=256,
                conv_out_channels=256, fc_out_channels=1024, roi_feat_size=7, num_classes=80,
                bbox_coder=dict(
                    type='DeltaXYWHBBoxCoder', target_means=[0.0] * 4,
                    target_stds=[centre, centre, size, size]),
                reg_class_agnostic=False, reg_decoded_bbox=True,
                norm_cfg=dict(type='SyncBN', requires_grad=True),
                loss_cls=dict(type='CrossEntropyLoss', use_sigmoid=False, loss_weight=1.0),
                loss_bbox=dict(type='GIoULoss', loss_weight=10.0))
            for centre, size in ((0.1, 0.2), (0.05, 0.1), (0.033, 0.067))]),
    train_cfg=dict(
        rpn=dict(allowed_border=0),
        rpn_proposal=dict(max_per_img=2000),
        rcnn=[
            dict(
                assigner=dict(
                    type='MaxIoUAssigner', pos_iou_thr=iou, neg_iou_thr=iou, min_pos_iou=iou,
                    match_low_quality=False, ignore_iof_thr=-1),
                sampler=dict(
                    type='RandomSampler', num=512, pos_fraction=0.25, neg_pos_ub=-1,
                    add_gt_as_proposals=True),
                mask_size=28, pos_weight=-1, debug=False)
            for iou in (0.5, 0.6, 0.7)]),
)
