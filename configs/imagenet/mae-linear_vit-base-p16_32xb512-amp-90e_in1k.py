# Linear probe of a fixed ViT-B/16 with absolute positions (MAE, dBOT, Img2Vec), 90 epochs (arXiv
# 2111.06377; the official code, facebookresearch/mae, FINETUNE.md, main_linprobe.py): CLS after the final
# norm goes through a BatchNorm without weights (eps 1e-6) into a linear layer drawn with 0.01; LARS; weak
# augmentation: random resized crop (0.08 to 1) and flip. Not for TinyMIM's relations: of the last block they
# train q, k and v alone. `num_classes` stands in the head.
_base_ = ['../_base_/datasets/imagenet_cls.py', '../_base_/runtime/pretrain.py',
          '../_base_/runtime/common.py']

model = dict(
    type='mmpretrain.ImageClassifier',
    data_preprocessor=dict(
        type='mmpretrain.ClsDataPreprocessor', to_rgb=True,
        mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375]),
    backbone=dict(
        type='mimseg.ViT', arch='base', img_size=224, patch_size=16, pos_embed='sincos',
        out_type='cls_token', frozen=True),
    neck=dict(type='mmpretrain.ClsBatchNormNeck', input_features=768, affine=False, eps=1e-6),
    head=dict(
        type='mmpretrain.LinearClsHead', num_classes=1000, in_channels=768,
        loss=dict(type='mmpretrain.CrossEntropyLoss'),
        init_cfg=dict(type='TruncNormal', layer='Linear', std=0.01)),
)
train_pipeline = [
    dict(type='mimseg.LoadImageFromFile'),
    dict(type='mmpretrain.RandomResizedCrop', scale=224, backend='pillow', interpolation='bicubic'),
    dict(type='mmpretrain.RandomFlip', prob=0.5, direction='horizontal'),
    dict(type='mmpretrain.PackInputs'),
]
train_dataloader = dict(batch_size=512, dataset=dict(pipeline=train_pipeline))
optim_wrapper = dict(
    type='mimseg.AmpOptimWrapper',
    # blr 0.1 x 16384 / 256
    optimizer=dict(type='mmpretrain.LARS', lr=6.4, momentum=0.9, weight_decay=0.0),
    constructor='DefaultOptimWrapperConstructor',
    # the official LARS scales no bias's rate
    paramwise_cfg=dict(custom_keys={'head.fc.bias': dict(lars_exclude=True)}),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-4, begin=0, end=10, convert_to_iter_based=True),
    dict(
        type='CosineAnnealingLR', T_max=80, eta_min=0.0, begin=10, end=90,
        convert_to_iter_based=True),
]
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=90)
auto_scale_lr = dict(base_batch_size=16384)
