# Linear probe of a fixed ViT-B/16 in BEiT's way (MaskDistill, BEiT v2, dBOT with CLIP), 90 epochs.
# Ours: MAE's recipe (arXiv 2111.06377) on the patch tokens' mean, since MaskDistill's CLS has no loss;
# `ln2` is a fixed norm without weights here. Our BEiT v2 has no last norm: model.backbone.final_norm=False.
_base_ = ['../_base_/models/classifier_linear.py', '../_base_/datasets/imagenet_cls_weak.py',
          '../_base_/runtime/pretrain.py', '../_base_/runtime/common.py']

model = dict(
    backbone=dict(
        pos_embed='none', rel_pos_bias='shared', layer_scale=0.1, weight_init='beit',
        out_type='avg_featmap'))
train_dataloader = dict(batch_size=512)
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
