# UperNet with ViT-L/16 on ADE20K, BEiT-style. Numbers of BEiT v2's large (microsoft/unilm,
# beit2/semantic_segmentation).
_base_ = './vit-base_upernet_8xb2-160k_ade20k-512x512.py'

model = dict(
    backbone=dict(  # as vit-base-beit has it
        arch='large', pos_embed='none', rel_pos_resize='geometric', layer_scale=1e-6,
        drop_path_rate=0.2, out_indices=(7, 11, 15, 23)),
    neck=dict(in_channels=1024),
    decode_head=dict(in_channels=[1024] * 4, channels=1024),
    auxiliary_head=dict(in_channels=1024),
)
optim_wrapper = dict(optimizer=dict(lr=4e-5), paramwise_cfg=dict(layer_decay_rate=0.9))
