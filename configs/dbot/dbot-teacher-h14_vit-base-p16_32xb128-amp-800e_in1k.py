# dBOT ViT-B/16 with a larger teacher, ViT-H/14 (arXiv 2209.03917; not in the released code). The
# teacher is our own run of dbot_vit-huge-p14_32xb128-amp-2x800e_in1k.py, at 196 px for the
# student's 14x14 tokens (a public review, on section 6). Numbers of the official code, PRETRAIN.md;
# one stage of 800 epochs is our choice.
_base_ = './dbot_vit-base-p16_32xb128-amp-2x800e_in1k.py'
del _base_.stages

model = dict(
    teacher=dict(
        init='work_dirs/dbot_vit-huge-p14_32xb128-amp-2x800e_in1k', input_size=196,
        backbone=dict(type='mimseg.ViT', arch='huge', img_size=196, patch_size=14)))
