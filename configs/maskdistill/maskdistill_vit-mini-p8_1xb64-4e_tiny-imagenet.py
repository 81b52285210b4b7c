# MaskDistill (arXiv 2210.10615) on images of 64 px: our numbers, chosen for two CPU cores. The teacher is
# a ViT-mini of our own, a stand-in for CLIP: set model.teacher.init to its checkpoint.
_base_ = ['../_base_/datasets/tiny_imagenet_mim.py', '../_base_/schedules/mim_small_4e.py',
          '../_base_/runtime/pretrain.py', '../_base_/runtime/common.py']

model = dict(
    type='mimseg.MaskedImageModeling',
    backbone=dict(
        type='mimseg.ViT', arch='mini', img_size=64, patch_size=8, mask_mode='token',
        pos_embed='none', rel_pos_bias='shared', layer_scale=0.1, weight_init='beit'),
    masking=dict(type='mimseg.BlockMasking', ratio=0.4),
    teacher=dict(
        type='mimseg.ViTTeacher', init='work_dirs/teacher',
        backbone=dict(type='mimseg.ViT', arch='mini', img_size=64, patch_size=8)),
    normalization=dict(type='mimseg.TokenLayerNorm'),
    head=dict(type='mimseg.LinearHead'),
    loss=dict(type='mimseg.SmoothL1Loss', beta=1.0),
)
