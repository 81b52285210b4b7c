# dBOT ViT-H/14 with CLIP, fine-tuned at 448 px, 10 epochs (arXiv 2209.03917; the official code,
# branch beit: DOWNSTREAM.md, run.sh, run_finetune.py).
# Starts from the whole classifier fine-tuned at 224 px, its head included, as in the official code:
# --cfg-options load_from=work_dirs/dbot-clip_vit-huge-p14_32xb32-amp-50e_in1k/epoch_50.pth.
# Recomputing the blocks is ours: it saves memory.
_base_ = ['../_base_/models/classifier_beit.py', '../_base_/datasets/imagenet_cls_448.py',
          '../_base_/runtime/pretrain.py', '../_base_/runtime/common.py']

model = dict(
    backbone=dict(
        arch='huge', img_size=448, patch_size=14, drop_path_rate=0.4,
        activation_checkpointing=True),
    head=dict(in_channels=1280),
)
train_dataloader = dict(batch_size=32)
optim_wrapper = dict(
    type='mimseg.AmpOptimWrapper',
    # the rate itself, at batch 1024; no clipping
    optimizer=dict(type='AdamW', lr=5e-5, betas=(0.9, 0.999), weight_decay=0.05),
    constructor='mimseg.LayerDecayConstructor',
    paramwise_cfg=dict(layer_decay_rate=0.95),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-4, begin=0, end=1, convert_to_iter_based=True),
    # ends at 1e-6 x the layer's scale; an absolute eta_min would lift the lower layers
    dict(
        type='CosineAnnealingLR', T_max=9, eta_min_ratio=1e-6 / 5e-5, begin=1, end=10,
        convert_to_iter_based=True),
]
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=10)
auto_scale_lr = dict(base_batch_size=1024)
