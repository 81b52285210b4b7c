# dBOT ViT-H/14 fine-tuned at 448 px, 10 epochs (arXiv 2209.03917; the official code, branch main:
# DOWNSTREAM.md, run.sh, main_finetune.py).
# Starts from the backbone fine-tuned at 224 px:
# --init work_dirs/dbot_vit-huge-p14_32xb32-amp-50e_in1k.
# The head is drawn again, as in the official code. Recomputing the blocks is ours: it saves memory.
_base_ = './mae_vit-base-p16_32xb32-amp-100e_in1k.py'

model = dict(
    backbone=dict(
        arch='huge', img_size=448, patch_size=14, drop_path_rate=0.4,
        activation_checkpointing=True),
    head=dict(in_channels=1280, init_cfg=dict(std=0.01)),
)
# Tested on the center of an image whose short edge is 448: from 384 px on the official codes resize to the
# crop itself (MAE's util/datasets.py, BEiT's datasets.py).
_base_.train_pipeline[1].scale = 448  # RandomResizedCrop
_base_.test_pipeline[1].scale = 448  # ResizeEdge
_base_.test_pipeline[2].crop_size = 448
train_dataloader = dict(dataset=dict(pipeline=_base_.train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=_base_.test_pipeline))
test_dataloader = val_dataloader
optim_wrapper = dict(optimizer=dict(lr=2.8e-4), paramwise_cfg=dict(layer_decay_rate=0.9))  # blr 7e-5 x 1024 / 256
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-4, begin=0, end=2, convert_to_iter_based=True),
    dict(
        type='CosineAnnealingLR', T_max=8, eta_min_ratio=1e-6 / 2.8e-4, begin=2, end=10,
        convert_to_iter_based=True),
]
train_cfg = dict(max_epochs=10)
