# A short pass of Mask R-CNN over COCO's own layout, to see that real files work: our numbers.
_base_ = ['../_base_/models/mask-rcnn_vit-mini.py', '../_base_/schedules/dense_small.py',
          '../_base_/runtime/detection.py', '../_base_/runtime/common.py']

data_root = 'data/coco'
model = dict(
    backbone=dict(img_size=256),
    roi_head=dict(bbox_head=dict(num_classes=80), mask_head=dict(num_classes=80)))
train_pipeline = [
    dict(type='mimseg.LoadImageFromFile'),
    dict(type='LoadAnnotations', with_bbox=True, with_mask=True),
    dict(type='Resize', scale=(256, 256), keep_ratio=True),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackDetInputs'),
]
test_pipeline = [
    dict(type='mimseg.LoadImageFromFile', broken='raise'),
    dict(type='Resize', scale=(256, 256), keep_ratio=True),
    dict(type='LoadAnnotations', with_bbox=True, with_mask=True),
    dict(type='PackDetInputs',
         meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor')),
]
train_dataloader = dict(
    batch_size=2, num_workers=1, persistent_workers=True,
    sampler=dict(type='InfiniteSampler', shuffle=True),
    dataset=dict(
        type='CocoDataset', data_root=data_root, pipeline=train_pipeline,
        ann_file='annotations/instances_train2017.json', data_prefix=dict(img='train2017'),
        filter_cfg=dict(filter_empty_gt=True)))
val_dataloader = dict(
    batch_size=2, num_workers=1, sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='CocoDataset', data_root=data_root, pipeline=test_pipeline,
        ann_file='annotations/instances_val2017.json', data_prefix=dict(img='val2017'),
        test_mode=True))
test_dataloader = val_dataloader
val_evaluator = dict(
    type='mmdet.FasterCocoMetric', metric=['bbox', 'segm'],
    ann_file=data_root + '/annotations/instances_val2017.json')
test_evaluator = val_evaluator
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-3, by_epoch=False, begin=0, end=5),
    dict(type='PolyLR', power=1.0, eta_min=0.0, by_epoch=False, begin=5, end=40),
]
train_cfg = dict(type='IterBasedTrainLoop', max_iters=40, val_interval=40)
default_hooks = dict(checkpoint=dict(interval=20))
