# dBOT ViT-B/16 with a larger teacher, ViT-H/14 (arXiv 2209.03917; not in the released code). The
# teacher is our own run of dbot_vit-huge-p14_32xb128-amp-2x800e_in1k.py, at 196 px for the
# student's 14x14 tokens (a public review, on section 6). Numbers of the official code, PRETRAIN.md;
# one stage of 800 epochs is our choice.
_base_ = ['../_base_/models/dbot.py', '../_base_/datasets/imagenet_mim.py',
          '../_base_/runtime/pretrain.py', '../_base_/runtime/common.py']

model = dict(
    backbone=dict(drop_path_rate=0.2),
    masking=dict(ratio=0.75),
    teacher=dict(
        init='work_dirs/dbot_vit-huge-p14_32xb128-amp-2x800e_in1k', input_size=196,
        backbone=dict(type='mimseg.ViT', arch='huge', img_size=196, patch_size=14)),
    head=dict(drop_path_rate=0.2),
)
train_dataloader = dict(batch_size=128)
optim_wrapper = dict(
    type='mimseg.AmpOptimWrapper',
    # blr 1.5e-4 x 4096 / 256 (PRETRAIN.md)
    optimizer=dict(type='AdamW', lr=2.4e-3, betas=(0.9, 0.95), weight_decay=0.05),
    clip_grad=dict(max_norm=3.0),
    constructor='mimseg.LayerDecayConstructor',
    paramwise_cfg=dict(layer_decay_rate=1.0),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-4, begin=0, end=40, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', T_max=760, begin=40, end=800, convert_to_iter_based=True),
]
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=800)
auto_scale_lr = dict(base_batch_size=4096)
