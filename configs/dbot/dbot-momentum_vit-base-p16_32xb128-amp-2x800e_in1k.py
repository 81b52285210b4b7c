# dBOT ViT-B/16 with momentum within a stage, two stages of 800 epochs: the ablation that arXiv
# 2209.03917 names. Its momentum is not known; 0.9998 is our choice. The rest as in
# dbot_vit-base-p16_32xb128-amp-2x800e_in1k.py.
_base_ = ['../_base_/models/dbot.py', '../_base_/datasets/imagenet_mim.py',
          '../_base_/runtime/pretrain.py', '../_base_/runtime/common.py']

train_dataloader = dict(batch_size=128)
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
    # the teacher starts as stage 1's student and follows the new one
    dict(name='stage2', teacher='stage1', optimizer='stage1',
         teacher_options=dict(type='mimseg.EMATeacher', momentum=0.9998),
         options=dict(custom_hooks=[dict(type='mimseg.TeacherUpdateHook')])),
]
