# dBOT ViT-B/16, three stages of 800 epochs (arXiv 2209.03917): what its public reviews say of the
# dense results; the released weights have two. Numbers of the official code, PRETRAIN.md.
_base_ = './dbot_vit-base-p16_32xb128-amp-2x800e_in1k.py'

stages = [
    dict(name='stage1'),
    dict(name='stage2', teacher='stage1', optimizer='stage1'),
    dict(name='stage3', teacher='stage2', optimizer='stage2'),
]
