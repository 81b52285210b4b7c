# TinyMIM ViT-B/16 with a masked student, from MAE ViT-L/16 (arXiv 2301.01296, Table 12). Numbers of
# the official code; 100 epochs as the paper's ablations (section 4.2). Mask tokens at 75 % random
# patches are our choice.
_base_ = ['../_base_/models/tinymim.py', '../_base_/datasets/imagenet_mim.py',
          '../_base_/runtime/pretrain.py', '../_base_/runtime/common.py']

model = dict(
    backbone=dict(
        mask_mode='token', drop_path_rate=0.1, drop_path_schedule='constant', last_block_heads=16),
    masking=dict(_delete_=True, type='mimseg.RandomMasking', ratio=0.75),
    head=dict(relations=('qk', 'vv'), teacher_layer=17),  # the 18th of 24 blocks
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
    dict(type='CosineAnnealingLR', T_max=85, begin=15, end=100, convert_to_iter_based=True),
]
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=100)
auto_scale_lr = dict(base_batch_size=4096)
# the last block's output and the final norm do not train: the loss reads its q, k and v alone
find_unused_parameters = True
