# Mask R-CNN on CamVid's things (`mimseg masks2coco`): our numbers. It trains on crops of 128
# px, which cost a fifth of whole frames, and is tested on whole ones.
_base_ = ['../_base_/models/mask-rcnn_vit-mini.py', '../_base_/schedules/dense_small.py',
          '../_base_/runtime/detection.py', '../_base_/runtime/common.py']

data_root = 'data/camvid'
model = dict(
    backbone=dict(img_size=128),
    roi_head=dict(bbox_head=dict(num_classes=5), mask_head=dict(num_classes=5)),
    # many small objects a frame
    train_cfg=dict(rpn=dict(sampler=dict(num=128)), rcnn=dict(sampler=dict(num=64))))
metainfo = dict(classes=('car', 'pedestrian', 'bicyclist', 'sign', 'pole'))
train_pipeline = [
    dict(type='mimseg.LoadImageFromFile'),
    dict(type='LoadAnnotations', with_bbox=True, with_mask=True),
    dict(type='RandomResize', scale=(320, 240), ratio_range=(0.75, 1.5), keep_ratio=True),
    dict(type='RandomCrop', crop_size=(128, 128)),
    dict(type='FilterAnnotations', min_gt_bbox_wh=(2, 2)),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackDetInputs'),
]
test_pipeline = [
    dict(type='mimseg.LoadImageFromFile', broken='raise'),
    dict(type='Resize', scale=(320, 240), keep_ratio=True),
    dict(type='LoadAnnotations', with_bbox=True, with_mask=True),
    dict(type='PackDetInputs',
         meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor')),
]
train_dataloader = dict(
    batch_size=8, num_workers=1, persistent_workers=True,
    sampler=dict(type='InfiniteSampler', shuffle=True),
    dataset=dict(
        type='CocoDataset', data_root=data_root, metainfo=metainfo, pipeline=train_pipeline,
        ann_file='instances_train.json', data_prefix=dict(img='images/train'),
        filter_cfg=dict(filter_empty_gt=True)))
val_dataloader = dict(
    batch_size=4, num_workers=1, sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='CocoDataset', data_root=data_root, metainfo=metainfo, pipeline=test_pipeline,
        ann_file='instances_val.json', data_prefix=dict(img='images/val'), test_mode=True))
test_dataloader = dict(
    batch_size=4, num_workers=1, sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='CocoDataset', data_root=data_root, metainfo=metainfo, pipeline=test_pipeline,
        ann_file='instances_test.json', data_prefix=dict(img='images/test'), test_mode=True))
val_evaluator = dict(
    type='mmdet.FasterCocoMetric', metric=['bbox', 'segm'],
    ann_file=data_root + '/instances_val.json')
test_evaluator = dict(
    type='mmdet.FasterCocoMetric', metric=['bbox', 'segm'],
    ann_file=data_root + '/instances_test.json')
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-3, by_epoch=False, begin=0, end=50),
    dict(type='PolyLR', power=1.0, eta_min=0.0, by_epoch=False, begin=50, end=700),
]
train_cfg = dict(type='IterBasedTrainLoop', max_iters=700, val_interval=700)
default_hooks = dict(checkpoint=dict(interval=250))
