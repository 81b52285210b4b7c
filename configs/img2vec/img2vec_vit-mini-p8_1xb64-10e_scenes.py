# Img2Vec (arXiv 2304.12535) at demo size: our numbers, chosen for two CPU cores; the abstract gives only
# the framework. The teacher is a ResNet-18 with random weights, which needs no download: stage 2 at 64 px
# has the student's 8x8 grid. For a trained one set model.teacher.weights to 'hub' or a file.
_base_ = ['../_base_/datasets/scenes_mim.py', '../_base_/schedules/mim_small.py',
          '../_base_/runtime/pretrain.py', '../_base_/runtime/common.py']

model = dict(
    type='mimseg.MaskedImageModeling',
    backbone=dict(
        type='mimseg.ViT', arch='mini', img_size=64, patch_size=8, mask_mode='drop',
        pos_embed='sincos'),
    masking=dict(type='mimseg.RandomMasking', ratio=0.75),
    teacher=dict(type='mimseg.TimmTeacher', model='resnet18', weights='random', stage=2),
    normalization=dict(type='mimseg.TokenLayerNorm'),
    head=dict(type='mimseg.DecoderHead', embed_dims=96, depth=1, num_heads=4),
    loss=dict(type='mimseg.SmoothL1Loss', beta=1.0),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-3, begin=0, end=1, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', begin=1, end=10, convert_to_iter_based=True),
]
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=10)
