# dBOT ViT-H/14 with CLIP, fine-tuned at 448 px, 10 epochs (arXiv 2209.03917; the official code,
# branch beit: DOWNSTREAM.md, run.sh, run_finetune.py).
# Starts from the whole classifier fine-tuned at 224 px, its head included, as in the official code:
# --cfg-options load_from=work_dirs/dbot-clip_vit-huge-p14_32xb32-amp-50e_in1k/epoch_50.pth.
# Recomputing the blocks is ours: it saves memory.
_base_ = './maskdistill_vit-base-p16_8xb128-amp-100e_in1k.py'

model = dict(
    backbone=dict(
        arch='huge', img_size=448, patch_size=14, drop_path_rate=0.4,
        activation_checkpointing=True),
    head=dict(in_channels=1280),
)
# Tested on the center of an image whose short edge is 448: from 384 px on the official codes resize to the
# crop itself (MAE's util/datasets.py, BEiT's datasets.py).
_base_.train_pipeline[1].scale = 448  # RandomResizedCrop
_base_.test_pipeline[1].scale = 448  # ResizeEdge
_base_.test_pipeline[2].crop_size = 448
train_dataloader = dict(batch_size=32, dataset=dict(pipeline=_base_.train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=_base_.test_pipeline))
test_dataloader = val_dataloader
optim_wrapper = dict(optimizer=dict(lr=5e-5), paramwise_cfg=dict(layer_decay_rate=0.95))
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-4, begin=0, end=1, convert_to_iter_based=True),
    dict(
        type='CosineAnnealingLR', T_max=9, eta_min_ratio=1e-6 / 5e-5, begin=1, end=10,
        convert_to_iter_based=True),
]
train_cfg = dict(max_epochs=10)
