# Linear probe of a fixed ViT-B/16 in BEiT's way (MaskDistill, BEiT v2, dBOT with CLIP), 90 epochs.
# Ours: MAE's recipe (arXiv 2111.06377) on the patch tokens' mean, since MaskDistill's CLS has no loss;
# `ln2` is a fixed norm without weights here. Our BEiT v2 has no last norm: model.backbone.final_norm=False.
_base_ = './mae-linear_vit-base-p16_32xb512-amp-90e_in1k.py'

model = dict(
    backbone=dict(
        pos_embed='none', rel_pos_bias='shared', layer_scale=0.1, weight_init='beit',
        out_type='avg_featmap'))
