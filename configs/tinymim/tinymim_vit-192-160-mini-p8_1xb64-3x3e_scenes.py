# TinyMIM's sequential chain (arXiv 2301.01296, section 3.3: L to B to S to T) at demo size: a teacher 256
# wide, then students of 192, 160 and 128 ('mini'), each taught by the one before. Our numbers, chosen for
# two CPU cores. The first teacher is an MAE: set model.teacher.init to its checkpoint
# (configs/mae/mae_vit-256-p8_1xb64-6e_scenes.py).
_base_ = ['../_base_/datasets/scenes_mim.py', '../_base_/schedules/mim_small.py',
          '../_base_/runtime/pretrain.py', '../_base_/runtime/common.py']

train_pipeline = [
    dict(type='mimseg.LoadImageFromFile'),
    dict(type='mimseg.MIMViews', student=dict(size=64, color_jitter=0.4), teacher=dict(size=64),
         scale=(0.4, 1.0), flip_prob=0.5),
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
model = dict(
    type='mimseg.MaskedImageModeling',
    backbone=dict(
        type='mimseg.ViT', img_size=64, patch_size=8, pos_embed='sincos',
        arch=dict(embed_dims=128, num_layers=6, num_heads=4, feedforward_channels=512),
        last_block_heads=8,  # as many as the teacher's block has
        drop_path_rate=0.0, drop_path_schedule='constant'),
    masking=None,
    teacher=dict(
        type='mimseg.ViTTeacher', init='work_dirs/teacher',
        backbone=dict(
            type='mimseg.ViT', img_size=64, patch_size=8, pos_embed='sincos',
            arch=dict(embed_dims=256, num_layers=6, num_heads=8, feedforward_channels=1024))),
    # the fifth of six blocks: three quarters of the depth and a little more, as the 18th of 24
    normalization=dict(type='mimseg.Relations', relations=('qk', 'vv'), layer=4),
    head=dict(type='mimseg.RelationHead', relations=('qk', 'vv')),
    loss=dict(type='mimseg.RelationKLLoss'),
    positions='all',
    with_cls=True,
)
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-3, begin=0, end=1, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', begin=1, end=3, convert_to_iter_based=True),
]
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=3)
# A student hands its relations on from its last block, with the 8 heads that it was trained with: the
# official code's smaller teachers run that block with another count.
stages = [
    dict(name='base', options={
        'model.backbone.arch': dict(embed_dims=192, num_heads=6, feedforward_channels=768)}),
    dict(name='small', teacher='base', options={
        'model.backbone.arch': dict(embed_dims=160, num_heads=5, feedforward_channels=640),
        'model.normalization.layer': -1}),
    dict(name='tiny', teacher='small', options={'model.normalization.layer': -1}),
]
