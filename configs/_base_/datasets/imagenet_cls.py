# Labelled images at 224 px: ImageNet-1k, or any folder with train/CLASS/* and val/CLASS/*. Labels are the
# class folders in the order of their names. Random resized crop (0.08 to 1), flip, RandAugment
# rand-m9-mstd0.5-inc1, random erasing 0.25: numbers of mmpretrain's imagenet_bs64_swin_224.py, which are
# those of MAE's and BEiT's fine-tuning. Colours are BGR here.
data_root = 'data/imagenet'
train_pipeline = [
    dict(type='mimseg.LoadImageFromFile'),
    dict(type='mmpretrain.RandomResizedCrop', scale=224, backend='pillow', interpolation='bicubic'),
    dict(type='mmpretrain.RandomFlip', prob=0.5, direction='horizontal'),
    dict(
        type='mmpretrain.RandAugment', policies='timm_increasing', num_policies=2, total_level=10,
        magnitude_level=9, magnitude_std=0.5,
        hparams=dict(pad_val=[104, 116, 124], interpolation='bicubic')),
    dict(
        type='mmpretrain.RandomErasing', erase_prob=0.25, mode='rand', min_area_ratio=0.02,
        max_area_ratio=1 / 3, fill_color=[103.53, 116.28, 123.675], fill_std=[57.375, 57.12, 58.395]),
    dict(type='mmpretrain.PackInputs'),
]
test_pipeline = [
    dict(type='mimseg.LoadImageFromFile', broken='raise'),
    dict(type='mmpretrain.ResizeEdge', scale=256, edge='short', backend='pillow',
         interpolation='bicubic'),
    dict(type='mmpretrain.CenterCrop', crop_size=224),
    dict(type='mmpretrain.PackInputs'),
]
train_dataloader = dict(
    num_workers=8, persistent_workers=True, drop_last=True,
    sampler=dict(type='DefaultSampler', shuffle=True),
    collate_fn=dict(type='default_collate'),
    dataset=dict(
        type='mmpretrain.CustomDataset', data_root=data_root, data_prefix='train',
        pipeline=train_pipeline))
val_dataloader = dict(
    batch_size=128, num_workers=8, persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    collate_fn=dict(type='default_collate'),
    dataset=dict(
        type='mmpretrain.CustomDataset', data_root=data_root, data_prefix='val',
        pipeline=test_pipeline))
val_evaluator = dict(type='mmpretrain.Accuracy', topk=(1, 5))
test_dataloader, test_evaluator = val_dataloader, val_evaluator
val_cfg, test_cfg = dict(), dict()
