# MaskDistill ViT-B/16 fine-tuned in BEiT's way, 100 epochs. Its own recipe (arXiv 2210.10615) is not known:
# these are the numbers of BEiT v2 (arXiv 2208.06366; microsoft/unilm,
# beit2/get_started_for_image_classification.md, beit2/run_class_finetuning.py; dBOT's branch beit has the
# same code) after 300 epochs of pretraining, and they serve BEiT v2 too. After 1600 epochs it has layer decay 0.6
# and drop path 0.2: --cfg-options optim_wrapper.paramwise_cfg.layer_decay_rate=0.6
# model.backbone.drop_path_rate=0.2.
# Relative positions a block, filled from the shared table of the pretraining; layer scale; the patch tokens'
# mean through a norm of its own. The head's weights are drawn with 0.02 and scaled by init_scale 0.001.
# The same for all sizes: mixup 0.8, cutmix 1.0 (one of the two a batch), label smoothing 0.1, and the
# augmentation of the data's config.
# `num_classes` stands in two places: data_preprocessor and head.
_base_ = ['../_base_/datasets/imagenet_cls.py', '../_base_/runtime/pretrain.py',
          '../_base_/runtime/common.py']

model = dict(
    type='mmpretrain.ImageClassifier',
    data_preprocessor=dict(
        type='mmpretrain.ClsDataPreprocessor', num_classes=1000, to_rgb=True,
        mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375]),
    backbone=dict(
        type='mimseg.ViT', arch='base', img_size=224, patch_size=16, pos_embed='none',
        rel_pos_bias='per_block', rel_pos_resize='geometric', layer_scale=0.1, weight_init='beit',
        drop_path_rate=0.1, final_norm=False, out_type='avg_featmap'),
    head=dict(
        type='mmpretrain.LinearClsHead', num_classes=1000, in_channels=768,
        loss=dict(type='mmpretrain.LabelSmoothLoss', label_smooth_val=0.1, mode='original'),
        init_cfg=dict(type='TruncNormal', layer='Linear', std=2e-5)),
    train_cfg=dict(augments=[
        dict(type='mmpretrain.Mixup', alpha=0.8), dict(type='mmpretrain.CutMix', alpha=1.0)]),
)
train_dataloader = dict(batch_size=128)
optim_wrapper = dict(
    type='mimseg.AmpOptimWrapper',
    # the rate itself, at batch 1024; no clipping
    optimizer=dict(type='AdamW', lr=5e-4, betas=(0.9, 0.999), weight_decay=0.05),
    constructor='mimseg.LayerDecayConstructor',
    paramwise_cfg=dict(layer_decay_rate=0.65),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-4, begin=0, end=20, convert_to_iter_based=True),
    # ends at 1e-6 x the layer's scale; an absolute eta_min would lift the lower layers
    dict(
        type='CosineAnnealingLR', T_max=80, eta_min_ratio=1e-6 / 5e-4, begin=20, end=100,
        convert_to_iter_based=True),
]
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=100)
auto_scale_lr = dict(base_batch_size=1024)
