# UperNet on CamVid, 11 classes, at a quarter of its resolution: our numbers.
_base_ = ['../_base_/models/upernet_vit-mini.py', '../_base_/schedules/dense_small.py',
          '../_base_/runtime/segmentation.py', '../_base_/runtime/common.py']

data_root = 'data/camvid'
void = 11  # the label that is ignored
model = dict(
    data_preprocessor=dict(size=(120, 160), seg_pad_val=void),
    backbone=dict(img_size=(120, 160)),
    decode_head=dict(num_classes=11, ignore_index=void))
layout = dict(
    type='BaseSegDataset', data_root=data_root, img_suffix='.jpg', seg_map_suffix='.png',
    ignore_index=void, metainfo=dict(classes=(
        'sky', 'building', 'pole', 'road', 'pavement', 'tree', 'sign', 'fence', 'car',
        'pedestrian', 'bicyclist')))
train_pipeline = [
    dict(type='mimseg.LoadImageFromFile'),
    dict(type='LoadAnnotations'),
    dict(type='RandomResize', scale=(160, 120), ratio_range=(0.75, 1.75), keep_ratio=True),
    dict(type='RandomCrop', crop_size=(120, 160), cat_max_ratio=0.9, ignore_index=void),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackSegInputs'),
]
test_pipeline = [
    dict(type='mimseg.LoadImageFromFile', broken='raise'),
    dict(type='Resize', scale=(160, 120), keep_ratio=True),
    dict(type='LoadAnnotations'),  # after Resize: measured at the labels' own resolution
    dict(type='PackSegInputs'),
]
tta_model = dict(type='SegTTAModel')
tta_pipeline = [
    dict(type='mimseg.LoadImageFromFile', broken='raise'),
    dict(type='TestTimeAug', transforms=[
        [dict(type='Resize', scale=(int(ratio * 160), int(ratio * 120)), keep_ratio=True)
         for ratio in (0.5, 0.75, 1.0, 1.25, 1.5, 1.75)],
        [dict(type='RandomFlip', prob=prob, direction='horizontal') for prob in (0.0, 1.0)],
        [dict(type='LoadAnnotations')],
        [dict(type='PackSegInputs')],
    ]),
]
train_dataloader = dict(
    batch_size=8, num_workers=1, persistent_workers=True,
    sampler=dict(type='InfiniteSampler', shuffle=True),
    dataset=dict(**layout, pipeline=train_pipeline,
                 data_prefix=dict(img_path='images/train', seg_map_path='annotations/train')))
val_dataloader = dict(
    batch_size=8, num_workers=1, sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(**layout, pipeline=test_pipeline,
                 data_prefix=dict(img_path='images/val', seg_map_path='annotations/val')))
test_dataloader = dict(
    batch_size=8, num_workers=1, sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(**layout, pipeline=test_pipeline,
                 data_prefix=dict(img_path='images/test', seg_map_path='annotations/test')))
val_evaluator = dict(type='IoUMetric', iou_metrics=['mIoU'], ignore_index=void)
test_evaluator = val_evaluator
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-3, by_epoch=False, begin=0, end=50),
    dict(type='PolyLR', power=1.0, eta_min=0.0, by_epoch=False, begin=50, end=300),
]
train_cfg = dict(type='IterBasedTrainLoop', max_iters=300, val_interval=300)
default_hooks = dict(checkpoint=dict(interval=100))
