# ADE20K, 150 classes, at 512 px: MAE's segmentation recipe as mmseg ships it. The official test
# labels are not public: the validation split is tested.
data_root = 'data/ade/ADEChallengeData2016'
train_pipeline = [
    dict(type='mimseg.LoadImageFromFile'),
    dict(type='LoadAnnotations', reduce_zero_label=True),
    dict(type='RandomResize', scale=(2048, 512), ratio_range=(0.5, 2.0), keep_ratio=True),
    dict(type='RandomCrop', crop_size=(512, 512), cat_max_ratio=0.75),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PhotoMetricDistortion'),
    dict(type='PackSegInputs'),
]
test_pipeline = [
    dict(type='mimseg.LoadImageFromFile', broken='raise'),
    dict(type='Resize', scale=(2048, 512), keep_ratio=True),
    dict(type='LoadAnnotations', reduce_zero_label=True),
    dict(type='PackSegInputs'),
]
# For --tta: six scales, each as it is and flipped, averaged after the softmax. They are scales of the
# test size, as in the old MultiScaleFlipAug of the papers' codes; mmseg's configs now scale the file.
tta_model = dict(type='mmseg.SegTTAModel')
tta_pipeline = [
    dict(type='mimseg.LoadImageFromFile', broken='raise'),
    dict(type='TestTimeAug', transforms=[
        [dict(type='Resize', scale=(int(ratio * 2048), int(ratio * 512)), keep_ratio=True)
         for ratio in (0.5, 0.75, 1.0, 1.25, 1.5, 1.75)],
        [dict(type='RandomFlip', prob=prob, direction='horizontal') for prob in (0.0, 1.0)],
        [dict(type='LoadAnnotations', reduce_zero_label=True)],
        [dict(type='PackSegInputs')],
    ]),
]
train_dataloader = dict(
    num_workers=4, persistent_workers=True,
    sampler=dict(type='InfiniteSampler', shuffle=True),
    dataset=dict(
        type='ADE20KDataset', data_root=data_root, pipeline=train_pipeline,
        data_prefix=dict(img_path='images/training', seg_map_path='annotations/training')))
val_dataloader = dict(
    batch_size=1, num_workers=4, persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='ADE20KDataset', data_root=data_root, pipeline=test_pipeline,
        data_prefix=dict(img_path='images/validation', seg_map_path='annotations/validation')))
test_dataloader = val_dataloader
val_evaluator = dict(type='IoUMetric', iou_metrics=['mIoU'])
test_evaluator = val_evaluator
