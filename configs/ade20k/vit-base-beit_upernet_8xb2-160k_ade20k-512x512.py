# UperNet with ViT-B/16 on ADE20K, BEiT-style (arXiv 2106.08254): relative positions without absolute ones,
# a table a block. Tables are resized as BEiT's code does; one that the pretraining shared is copied to
# every block. Biases and layer scale come with the checkpoint. Numbers of BEiT v2's base (microsoft/unilm,
# beit2/semantic_segmentation).
_base_ = './vit-base_upernet_8xb2-160k_ade20k-512x512.py'

model = dict(
    backbone=dict(
        pos_embed='none', rel_pos_resize='geometric', layer_scale=0.1, drop_path_rate=0.15))
optim_wrapper = dict(optimizer=dict(lr=5e-5), paramwise_cfg=dict(layer_decay_rate=0.75))
