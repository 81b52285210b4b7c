# dBOT ViT-H/14 with CLIP ViT-L/14, 1600 epochs (arXiv 2209.03917; the official code, branch beit).
# Layer scale is 0.1 for H/14 too: the official command does not change it.
_base_ = './dbot-clip_vit-base-p16_32xb128-amp-1600e_in1k.py'

model = dict(
    backbone=dict(arch='huge', patch_size=14),
    masking=dict(ratio=78 / 256),  # the command's 78 patches, of 16x16 here
    teacher=dict(model='ViT-L-14-quickgelu'),  # 16x16 tokens at 224 px
)
