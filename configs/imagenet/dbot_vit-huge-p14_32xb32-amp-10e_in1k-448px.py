# dBOT ViT-H/14 fine-tuned at 448 px, 10 epochs (arXiv 2209.03917; the official code, branch main:
# DOWNSTREAM.md, run.sh, main_finetune.py).
# Starts from the backbone fine-tuned at 224 px:
# --init work_dirs/dbot_vit-huge-p14_32xb32-amp-50e_in1k.
# The head is drawn anew, as in the official code. Recomputing the blocks is ours: it saves memory.
_base_ = ['../_base_/models/classifier_mae.py', '../_base_/datasets/imagenet_cls_448.py',
          '../_base_/runtime/pretrain.py', '../_base_/runtime/common.py']

model = dict(
    backbone=dict(
        arch='huge', img_size=448, patch_size=14, drop_path_rate=0.4,
        activation_checkpointing=True),
    head=dict(in_channels=1280, init_cfg=dict(std=0.01)),
)
train_dataloader = dict(batch_size=32)
optim_wrapper = dict(
    type='mimseg.AmpOptimWrapper',
    # blr 7e-5 x 1024 / 256, no clipping
    optimizer=dict(type='AdamW', lr=2.8e-4, betas=(0.9, 0.999), weight_decay=0.05),
    constructor='mimseg.LayerDecayConstructor',
    paramwise_cfg=dict(layer_decay_rate=0.9),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-4, begin=0, end=2, convert_to_iter_based=True),
    # ends at 1e-6 x the layer's scale; an absolute eta_min would lift the lower layers
    dict(
        type='CosineAnnealingLR', T_max=8, eta_min_ratio=1e-6 / 2.8e-4, begin=2, end=10,
        convert_to_iter_based=True),
]
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=10)
auto_scale_lr = dict(base_batch_size=1024)
