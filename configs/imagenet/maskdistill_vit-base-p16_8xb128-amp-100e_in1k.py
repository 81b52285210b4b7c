# MaskDistill ViT-B/16 fine-tuned, 100 epochs. Its own recipe (arXiv 2210.10615) is not known: these are
# the numbers of BEiT v2 (arXiv 2208.06366; microsoft/unilm,
# beit2/get_started_for_image_classification.md) after 300 epochs of pretraining, and they serve BEiT v2
# too. After 1600 epochs it has layer decay 0.6 and drop path 0.2: --cfg-options
# optim_wrapper.paramwise_cfg.layer_decay_rate=0.6 model.backbone.drop_path_rate=0.2.
_base_ = ['../_base_/models/classifier_beit.py', '../_base_/datasets/imagenet_cls.py',
          '../_base_/runtime/pretrain.py', '../_base_/runtime/common.py']

model = dict(backbone=dict(drop_path_rate=0.1))
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
