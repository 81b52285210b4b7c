# dBOT ViT-L/16, two stages of 800 epochs (arXiv 2209.03917; the official code, PRETRAIN.md).
_base_ = './dbot_vit-base-p16_32xb128-amp-2x800e_in1k.py'
del _base_.optim_wrapper.clip_grad  # no clipping (PRETRAIN.md)

model = dict(
    backbone=dict(arch='large'),
    # the first teacher is the random patch embedding alone: a linear map of pixels
    teacher=dict(depth=0),
)
