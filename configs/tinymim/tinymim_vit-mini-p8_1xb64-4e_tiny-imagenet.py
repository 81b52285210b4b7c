# TinyMIM (arXiv 2301.01296) on images of 64 px: our numbers, chosen for two CPU cores. The teacher is a
# ViT-mini of our own, of the student's size: set model.teacher.init to its checkpoint.
_base_ = ['../_base_/datasets/tiny_imagenet_mim.py', '../_base_/schedules/mim_small_4e.py',
          '../_base_/runtime/pretrain.py', '../_base_/runtime/common.py']

train_pipeline = [
    dict(type='mimseg.LoadImageFromFile'),
    dict(type='mimseg.MIMViews', student=dict(size=64, color_jitter=0.4), teacher=dict(size=64),
         scale=(0.2, 1.0), flip_prob=0.5),
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
model = dict(
    type='mimseg.MaskedImageModeling',
    backbone=dict(
        type='mimseg.ViT', arch='mini', img_size=64, patch_size=8, pos_embed='sincos',
        drop_path_rate=0.0, drop_path_schedule='constant'),
    masking=None,
    teacher=dict(type='mimseg.ViTTeacher', init='work_dirs/teacher'),
    # the fifth of six blocks: three quarters of the depth and a little more, as the 18th of 24
    normalization=dict(type='mimseg.Relations', relations=('qk', 'vv'), layer=4),
    head=dict(type='mimseg.RelationHead', relations=('qk', 'vv')),
    loss=dict(type='mimseg.RelationKLLoss'),
    positions='all',
    with_cls=True,
)
