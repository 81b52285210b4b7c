# COCO 2017, 80 classes, boxes and masks. Pipelines, samplers and batch are each recipe's.
# The test labels are not public: the validation split is tested.
# Boxes and masks are scored by faster-coco-eval. pycocotools does it with
#     --cfg-options val_evaluator.type=mmdet.CocoMetric test_evaluator.type=mmdet.CocoMetric
data_root = 'data/coco'
train_dataloader = dict(
    num_workers=4, persistent_workers=True,
    dataset=dict(
        type='CocoDataset', data_root=data_root,
        ann_file='annotations/instances_train2017.json', data_prefix=dict(img='train2017'),
        filter_cfg=dict(filter_empty_gt=True, min_size=32)))
val_dataloader = dict(
    batch_size=1, num_workers=4, persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='CocoDataset', data_root=data_root,
        ann_file='annotations/instances_val2017.json', data_prefix=dict(img='val2017'),
        test_mode=True))
test_dataloader = val_dataloader
val_evaluator = dict(
    type='mmdet.FasterCocoMetric', metric=['bbox', 'segm'],
    ann_file=data_root + '/annotations/instances_val2017.json')
test_evaluator = val_evaluator
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
