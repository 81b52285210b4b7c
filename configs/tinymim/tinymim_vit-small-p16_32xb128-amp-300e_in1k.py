# TinyMIM ViT-S/16 from TinyMIM ViT-B/16, 300 epochs (arXiv 2301.01296, section 3.3; numbers of the
# official code, the same for all sizes). The teacher is our own run of the base config. Heads are
# our choice: the last block has as many as the teacher's last block was trained with, 16; the
# official code mixes counts, and its chain does not run.
_base_ = ['../_base_/models/tinymim.py', '../_base_/datasets/imagenet_mim.py',
          '../_base_/runtime/pretrain.py', '../_base_/runtime/common.py']

model = dict(
    backbone=dict(
        arch='small', drop_path_rate=0.1, drop_path_schedule='constant', last_block_heads=16),
    teacher=dict(
        _delete_=True, type='mimseg.ViTTeacher',
        init='work_dirs/tinymim_vit-base-p16_32xb128-amp-300e_in1k',
        backbone=dict(
            type='mimseg.ViT', arch='base', img_size=224, patch_size=16, last_block_heads=16)),
    head=dict(teacher_layer=-1),  # the block that was trained
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
# the last block's output and the final norm do not train: the loss reads its q, k and v alone
find_unused_parameters = True
