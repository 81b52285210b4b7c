# MAE ViT-B/16 fine-tuned, 100 epochs (arXiv 2111.06377; the official code, facebookresearch/mae,
# FINETUNE.md, main_finetune.py; dBOT's branch main and TinyMIM use the same code): the patch tokens' mean
# through a norm of its own (fc_norm; here ln2) that starts afresh, in the place of the final norm; the
# position embedding, fixed in pretraining, learns. The same for all sizes: mixup 0.8, cutmix 1.0 (one of the
# two a batch), label smoothing 0.1, and the augmentation of the data's config.
# `num_classes` stands in two places: data_preprocessor and head.
_base_ = ['../_base_/datasets/imagenet_cls.py', '../_base_/runtime/pretrain.py',
          '../_base_/runtime/common.py']

model = dict(
    type='mmpretrain.ImageClassifier',
    data_preprocessor=dict(
        type='mmpretrain.ClsDataPreprocessor', num_classes=1000, to_rgb=True,
        mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375]),
    backbone=dict(
        type='mimseg.ViT', arch='base', img_size=224, patch_size=16, pos_embed='learned',
        drop_path_rate=0.1, final_norm=False, out_type='avg_featmap'),
    head=dict(
        type='mmpretrain.LinearClsHead', num_classes=1000, in_channels=768,
        loss=dict(type='mmpretrain.LabelSmoothLoss', label_smooth_val=0.1, mode='original'),
        init_cfg=dict(type='TruncNormal', layer='Linear', std=2e-5)),
    train_cfg=dict(augments=[
        dict(type='mmpretrain.Mixup', alpha=0.8), dict(type='mmpretrain.CutMix', alpha=1.0)]),
)
train_dataloader = dict(batch_size=32)
optim_wrapper = dict(
    type='mimseg.AmpOptimWrapper',
    # blr 5e-4 x 1024 / 256, no clipping
    optimizer=dict(type='AdamW', lr=2e-3, betas=(0.9, 0.999), weight_decay=0.05),
    constructor='mimseg.LayerDecayConstructor',
    paramwise_cfg=dict(layer_decay_rate=0.65),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-4, begin=0, end=5, convert_to_iter_based=True),
    # ends at 1e-6 x the layer's scale; an absolute eta_min would lift the lower layers
    dict(
        type='CosineAnnealingLR', T_max=95, eta_min_ratio=1e-6 / 2e-3, begin=5, end=100,
        convert_to_iter_based=True),
]
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=100)
auto_scale_lr = dict(base_batch_size=1024)
