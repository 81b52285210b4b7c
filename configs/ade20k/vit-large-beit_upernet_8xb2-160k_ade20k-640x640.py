# UperNet with ViT-L/16 on ADE20K at 640 px, BEiT-style. Numbers of mmseg's
# beit-large_upernet_8xb1-amp-160k_ade20k-640x640.py: 56.33 mIoU there, 56.84 with scales and flips,
# with weights pretrained and fine-tuned on ImageNet-22k. It sums two batches of 8 a step, so its
# 3000 iterations of warmup and 320k in all are 1500 and 160k here. Ours: the rate falls over all of
# them (there it is at 0 after half), float32 (--amp gives bfloat16), and blocks are recomputed.
_base_ = ['../_base_/models/upernet_vit-base-beit.py', '../_base_/datasets/ade20k_640.py',
          '../_base_/schedules/ade20k_160k.py', '../_base_/runtime/common.py']

model = dict(
    backbone=dict(
        arch='large', img_size=640, drop_path_rate=0.2, layer_scale=1e-6,
        out_indices=(7, 11, 15, 23), activation_checkpointing=True),
    data_preprocessor=dict(size=(640, 640)),
    neck=dict(in_channels=1024),
    decode_head=dict(in_channels=[1024] * 4, channels=1024),
    auxiliary_head=dict(in_channels=1024),
    test_cfg=dict(mode='slide', crop_size=(640, 640), stride=(426, 426)),
)
train_dataloader = dict(batch_size=2)
optim_wrapper = dict(
    optimizer=dict(type='AdamW', lr=2e-5, betas=(0.9, 0.999), weight_decay=0.05),
    paramwise_cfg=dict(layer_decay_rate=0.95),
)
