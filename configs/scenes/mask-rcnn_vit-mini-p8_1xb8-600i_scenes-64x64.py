# Mask R-CNN on generated scenes in COCO's layout, at demo size: our numbers.
_base_ = ['../_base_/models/mask-rcnn_vit-mini.py', '../_base_/schedules/dense_small.py',
          '../_base_/runtime/detection.py', '../_base_/runtime/common.py']

data_root = 'data/scenes'
metainfo = dict(classes=(
    'striped disc', 'checked square', 'dotted triangle', 'netted star', 'blotched ring',
    'plain cross', 'wavy hexagon', 'ringed crescent'))
train_pipeline = [
    dict(type='mimseg.LoadImageFromFile'),
    dict(type='LoadAnnotations', with_bbox=True, with_mask=True),
    dict(type='RandomResize', scale=(64, 64), ratio_range=(0.75, 1.5), keep_ratio=True),
    dict(type='RandomCrop', crop_size=(64, 64)),
    dict(type='FilterAnnotations', min_gt_bbox_wh=(4, 4)),
    dict(type='Pad', size=(64, 64)),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackDetInputs'),
]
test_pipeline = [
    dict(type='mimseg.LoadImageFromFile', broken='raise'),
    dict(type='Resize', scale=(64, 64), keep_ratio=True),
    dict(type='LoadAnnotations', with_bbox=True, with_mask=True),
    dict(type='PackDetInputs',
         meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor')),
]
train_dataloader = dict(
    batch_size=8, num_workers=1, persistent_workers=True,
    sampler=dict(type='InfiniteSampler', shuffle=True),
    dataset=dict(
        type='CocoDataset', data_root=data_root, metainfo=metainfo, pipeline=train_pipeline,
        ann_file='annotations/instances_train.json', data_prefix=dict(img='images/training'),
        filter_cfg=dict(filter_empty_gt=True)))
val_dataloader = dict(
    batch_size=8, num_workers=1,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='CocoDataset', data_root=data_root, metainfo=metainfo, pipeline=test_pipeline,
        ann_file='annotations/instances_val.json', data_prefix=dict(img='images/validation'),
        test_mode=True))
test_dataloader = dict(
    batch_size=8, num_workers=1,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='CocoDataset', data_root=data_root, metainfo=metainfo, pipeline=test_pipeline,
        ann_file='annotations/instances_test.json', data_prefix=dict(img='images/test'),
        test_mode=True))
val_evaluator = dict(
    type='mmdet.FasterCocoMetric', metric=['bbox', 'segm'],
    ann_file=data_root + '/annotations/instances_val.json')
test_evaluator = dict(
    type='mmdet.FasterCocoMetric', metric=['bbox', 'segm'],
    ann_file=data_root + '/annotations/instances_test.json')
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-3, by_epoch=False, begin=0, end=50),
    dict(type='PolyLR', power=1.0, eta_min=0.0, by_epoch=False, begin=50, end=600),
]
train_cfg = dict(type='IterBasedTrainLoop', max_iters=600, val_interval=600)
default_hooks = dict(checkpoint=dict(interval=200))
