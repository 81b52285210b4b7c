# Supervised training of the same backbone on image labels, for comparison: our numbers, chosen for two
# CPU cores, with the same epochs and crops as the pretraining beside it.
_base_ = ['../_base_/schedules/mim_small_4e.py', '../_base_/runtime/pretrain.py',
          '../_base_/runtime/common.py']

model = dict(
    type='mmpretrain.ImageClassifier',
    data_preprocessor=dict(
        type='mmpretrain.ClsDataPreprocessor', num_classes=200, to_rgb=True,
        mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375]),
    backbone=dict(
        type='mimseg.ViT', arch='mini', img_size=64, patch_size=8, pos_embed='sincos',
        out_type='cls_token'),
    head=dict(
        type='mmpretrain.LinearClsHead', num_classes=200, in_channels=128,
        loss=dict(type='mmpretrain.LabelSmoothLoss', label_smooth_val=0.1), topk=(1, 5)),
)
data_root = 'data/tiny-imagenet'
train_pipeline = [
    dict(type='mimseg.LoadImageFromFile'),
    dict(type='mmpretrain.RandomResizedCrop', scale=64, crop_ratio_range=(0.2, 1.0),
         backend='pillow', interpolation='bicubic'),
    dict(type='mmpretrain.RandomFlip', prob=0.5, direction='horizontal'),
    dict(type='mmpretrain.PackInputs'),
]
test_pipeline = [
    dict(type='mimseg.LoadImageFromFile'),
    dict(type='mmpretrain.PackInputs'),
]
train_dataloader = dict(
    batch_size=64, num_workers=1, persistent_workers=True, drop_last=True,
    sampler=dict(type='DefaultSampler', shuffle=True),
    collate_fn=dict(type='default_collate'),
    dataset=dict(
        type='mmpretrain.CustomDataset', data_root=data_root, data_prefix='train',
        pipeline=train_pipeline))
val_dataloader = dict(
    batch_size=64, num_workers=1, persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    collate_fn=dict(type='default_collate'),
    dataset=dict(
        type='mmpretrain.CustomDataset', data_root=data_root, data_prefix='val',
        pipeline=test_pipeline))
val_evaluator = dict(type='mmpretrain.Accuracy', topk=(1, 5))
test_dataloader, test_evaluator = val_dataloader, val_evaluator
val_cfg, test_cfg = dict(), dict()
