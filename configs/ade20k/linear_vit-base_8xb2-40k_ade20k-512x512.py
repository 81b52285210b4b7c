# Linear segmentation on frozen features of ViT-B/16, ADE20K: batch norm and a 1x1 convolution on
# the last block's normalized patch tokens. Ours, after DINOv2's probe (arXiv 2304.07193), whose
# ADE20K config has these numbers of optimizer, schedule, crops and test. Ours too: no weight decay
# on norms and biases.
# BEiT-like checkpoints want model.backbone.pos_embed=none model.backbone.rel_pos_bias=shared
# model.backbone.rel_pos_resize=geometric model.backbone.layer_scale=0.1 (our BEiT v2, which has no last norm,
# model.backbone.final_norm=False too). Several blocks are concatenated by, as an example,
# model.backbone.out_indices=[8,9,10,11] model.decode_head.in_channels=[768,768,768,768]. TinyMIM's relations train
# q, k and v alone of the last block: take model.backbone.out_indices=[-2].
_base_ = ['../_base_/datasets/ade20k_512.py', '../_base_/runtime/segmentation.py',
          '../_base_/runtime/common.py']

model = dict(
    type='mmseg.EncoderDecoder',
    data_preprocessor=dict(
        type='mmseg.SegDataPreProcessor',
        mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], bgr_to_rgb=True,
        pad_val=0, seg_pad_val=255, size=(512, 512), test_cfg=dict(size_divisor=16)),
    backbone=dict(
        type='mimseg.ViT', arch='base', img_size=512, patch_size=16, pos_embed='learned',
        out_indices=(-1,), frozen=True),
    decode_head=dict(
        type='mimseg.LinearSegHead', in_channels=768, num_classes=150,
        norm_cfg=dict(type='SyncBN', requires_grad=True), align_corners=False,
        loss_decode=dict(type='mmseg.CrossEntropyLoss', use_sigmoid=False, loss_weight=1.0)),
    train_cfg=dict(),
    test_cfg=dict(mode='slide', crop_size=(512, 512), stride=(341, 341)),
)
train_dataloader = dict(batch_size=2)
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=1e-3, betas=(0.9, 0.999), weight_decay=1e-4),
    constructor='mimseg.LayerDecayConstructor',
)
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-6, by_epoch=False, begin=0, end=1500),
    dict(type='PolyLR', power=1.0, eta_min=0.0, by_epoch=False, begin=1500, end=40000),
]
train_cfg = dict(type='IterBasedTrainLoop', max_iters=40000, val_interval=10000)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
default_hooks = dict(checkpoint=dict(interval=10000))
auto_scale_lr = dict(base_batch_size=16)
