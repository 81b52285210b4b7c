# dBOT ViT-B/16, two stages of 800 epochs: the staged encoder-decoder system (arXiv 2209.03917; the
# official code, branch main, PRETRAIN.md). The paper's dense results may use three stages: its reviews
# say so, its released weights do not.
_base_ = ['../_base_/datasets/imagenet_mim.py', '../_base_/runtime/pretrain.py',
          '../_base_/runtime/common.py']

model = dict(
    type='mimseg.MaskedImageModeling',
    backbone=dict(
        type='mimseg.ViT', arch='base', img_size=224, patch_size=16, mask_mode='drop',
        pos_embed='sincos', drop_path_rate=0.2),
    masking=dict(type='mimseg.RandomMasking', ratio=0.75),
    # the first teacher is a copy of the student's own initial weights; no final norm
    teacher=dict(type='mimseg.ViTTeacher', init='student', final_norm=False),
    # the official code: unbiased variance, eps 1e-6 under the root
    normalization=dict(type='mimseg.TokenLayerNorm', unbiased=True, eps=1e-6),
    head=dict(
        type='mimseg.DecoderHead', embed_dims=512, depth=8, num_heads=16, drop_path_rate=0.2),
    loss=dict(type='mimseg.SmoothL1Loss', beta=2.0),
    with_cls=True,  # the official code counts the CLS position as masked
)
train_pipeline = [
    dict(type='mimseg.LoadImageFromFile'),
    dict(type='mimseg.MIMViews', student=dict(size=224), scale=(0.2, 1.0), flip_prob=0.5),
]
train_dataloader = dict(batch_size=128, dataset=dict(pipeline=train_pipeline))
optim_wrapper = dict(
    type='mimseg.AmpOptimWrapper',
    # blr 1.5e-4 x 4096 / 256 (PRETRAIN.md)
    optimizer=dict(type='AdamW', lr=2.4e-3, betas=(0.9, 0.95), weight_decay=0.05),
    clip_grad=dict(max_norm=3.0),
    constructor='mimseg.LayerDecayConstructor',
    paramwise_cfg=dict(layer_decay_rate=1.0),
)
param_scheduler = [  # restarted in each stage
    dict(type='LinearLR', start_factor=1e-4, begin=0, end=40, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', T_max=760, begin=40, end=800, convert_to_iter_based=True),
]
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=800)
auto_scale_lr = dict(base_batch_size=4096)

stages = [
    dict(name='stage1'),
    # the student becomes the teacher, a new student starts; AdamW's moments live on, as in the
    # official code
    dict(name='stage2', teacher='stage1', optimizer='stage1'),
]
