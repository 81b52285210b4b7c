# Img2Vec (arXiv 2304.12535) on images of 64 px: our numbers, chosen for two CPU cores; the abstract gives
# only the framework. The teacher is a ViT-mini of our own, trained without labels: set
# model.teacher.init to its checkpoint.
_base_ = ['../_base_/datasets/tiny_imagenet_mim.py', '../_base_/schedules/mim_small_4e.py',
          '../_base_/runtime/pretrain.py', '../_base_/runtime/common.py']

model = dict(
    type='mimseg.MaskedImageModeling',
    backbone=dict(
        type='mimseg.ViT', arch='mini', img_size=64, patch_size=8, mask_mode='drop',
        pos_embed='sincos'),
    masking=dict(type='mimseg.RandomMasking', ratio=0.75),
    teacher=dict(type='mimseg.ViTTeacher', init='work_dirs/teacher'),
    normalization=dict(type='mimseg.TokenLayerNorm'),
    head=dict(type='mimseg.DecoderHead', embed_dims=96, depth=1, num_heads=4),
    loss=dict(type='mimseg.SmoothL1Loss', beta=1.0),
)
