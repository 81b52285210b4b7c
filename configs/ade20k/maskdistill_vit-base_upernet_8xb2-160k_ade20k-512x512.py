# UperNet with MaskDistill's ViT-B/16 on ADE20K. MaskDistill's own numbers are not known: these are
# those of a third party's code, drkostas/MaskDistill-PyTorch, which reports 52.6 mIoU; taps, layer
# scale and schedule are BEiT v2's as well. A table a block, from the shared one, is our choice.
_base_ = ['../_base_/models/upernet_vit-base-beit.py', '../_base_/datasets/ade20k_512.py',
          '../_base_/schedules/ade20k_160k.py', '../_base_/runtime/common.py']

model = dict(
    backbone=dict(
        arch='base', drop_path_rate=0.1, layer_scale=0.1, out_indices=(3, 5, 7, 11)),
    test_cfg=dict(mode='slide', crop_size=(512, 512), stride=(341, 341)),
)
train_dataloader = dict(batch_size=2)
optim_wrapper = dict(
    optimizer=dict(type='AdamW', lr=8e-5, betas=(0.9, 0.999), weight_decay=0.05),
    paramwise_cfg=dict(layer_decay_rate=0.75),
)
