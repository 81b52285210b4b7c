# UperNet with a BEiT-like ViT-B/16 (arXiv 2106.08254; microsoft/unilm,
# beit2/semantic_segmentation): relative positions without absolute ones, a table a block. Tables
# are resized as BEiT's code does; one that the pretraining shared is copied to every block.
_base_ = ['./upernet_vit-base.py']
model = dict(
    backbone=dict(
        pos_embed='none', rel_pos_bias='per_block', rel_pos_resize='geometric', layer_scale=0.1))
