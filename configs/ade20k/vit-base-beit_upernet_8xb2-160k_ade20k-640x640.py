# UperNet with ViT-B/16 on ADE20K at 640 px, BEiT-style. Numbers of mmseg's
# beit-base_upernet_8xb2-160k_ade20k-640x640.py: 53.08 mIoU there, 53.84 with scales and flips, with
# weights pretrained and fine-tuned on ImageNet-22k.
_base_ = ['../_base_/models/upernet_vit-base-beit.py', '../_base_/datasets/ade20k_640.py',
          '../_base_/schedules/ade20k_160k.py', '../_base_/runtime/common.py']

model = dict(
    backbone=dict(
        arch='base', img_size=640, drop_path_rate=0.1, layer_scale=0.1,
        out_indices=(3, 5, 7, 11)),
    data_preprocessor=dict(size=(640, 640)),
    test_cfg=dict(mode='slide', crop_size=(640, 640), stride=(426, 426)),
)
train_dataloader = dict(batch_size=2)
optim_wrapper = dict(
    optimizer=dict(type='AdamW', lr=3e-5, betas=(0.9, 0.999), weight_decay=0.05),
    paramwise_cfg=dict(layer_decay_rate=0.9),
)
