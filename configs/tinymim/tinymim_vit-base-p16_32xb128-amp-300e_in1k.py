# TinyMIM ViT-B/16 from MAE ViT-L/16, 300 epochs (arXiv 2301.01296; the official code, README and
# main_pretrain.py): full images to both, the relations of a middle teacher block against those of the
# student's last one.
_base_ = ['../_base_/datasets/imagenet_mim.py', '../_base_/runtime/pretrain.py',
          '../_base_/runtime/common.py']

model = dict(
    type='mimseg.MaskedImageModeling',
    # the last block has the teacher's head count (section 3.2)
    backbone=dict(
        type='mimseg.ViT', arch='base', img_size=224, patch_size=16, pos_embed='sincos',
        drop_path_rate=0.1, drop_path_schedule='constant', last_block_heads=16),
    masking=None,
    teacher=dict(type='mimseg.TimmTeacher', model='vit_large_patch16_224.mae', weights='hub'),
    # the 18th of 24 blocks (section 4)
    normalization=dict(type='mimseg.Relations', relations=('qk', 'vv'), layer=17),
    head=dict(type='mimseg.RelationHead', relations=('qk', 'vv')),
    loss=dict(type='mimseg.RelationKLLoss'),
    positions='all',
    with_cls=True,
)
train_pipeline = [
    dict(type='mimseg.LoadImageFromFile'),
    dict(type='mimseg.MIMViews', student=dict(size=224, color_jitter=0.4), teacher=dict(size=224),
         scale=(0.2, 1.0), flip_prob=0.5),
]
train_dataloader = dict(batch_size=128, dataset=dict(pipeline=train_pipeline))
optim_wrapper = dict(
    type='mimseg.AmpOptimWrapper',
    # blr 1.5e-4 x 4096 / 256, no clipping
    optimizer=dict(type='AdamW', lr=2.4e-3, betas=(0.9, 0.95), weight_decay=0.05),
    constructor='mimseg.LayerDecayConstructor',
    paramwise_cfg=dict(layer_decay_rate=1.0),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-4, begin=0, end=15, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', T_max=285, begin=15, end=300, convert_to_iter_based=True),
]
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=300)
auto_scale_lr = dict(base_batch_size=4096)
