# UperNet with MaskDistill's ViT-B/16 on ADE20K. MaskDistill's own numbers are not known: these are
# those of a third party's code, drkostas/MaskDistill-PyTorch, which reports 52.6 mIoU; taps, layer
# scale and schedule are BEiT v2's as well. A table a block, from the shared one, is our choice.
_base_ = './vit-base_upernet_8xb2-160k_ade20k-512x512.py'

model = dict(
    backbone=dict(  # as vit-base-beit has it
        pos_embed='none', rel_pos_resize='geometric', layer_scale=0.1))
optim_wrapper = dict(optimizer=dict(lr=8e-5), paramwise_cfg=dict(layer_decay_rate=0.75))
