# ConMIM ViT-B/16, 800 epochs (arXiv 2205.09616; epochs of its model zoo). The official README has
# ViT-L's command alone (TencentARC/ConMIM): that B takes its numbers is our choice; layer scale 0.1
# is what the code says for B. What differs from the method is listed in the base.
_base_ = ['../_base_/models/conmim.py', '../_base_/datasets/imagenet_mim.py',
          '../_base_/runtime/pretrain.py', '../_base_/runtime/common.py']

model = dict(
    backbone=dict(layer_scale=0.1, drop_path_rate=0.0),
    masking=dict(ratio=0.75, unit=2),  # 37 of 49 squares of 32 px
    teacher=dict(momentum=0.996, end_momentum=1.0),
    loss=dict(temperature=0.1),
)
train_pipeline = [
    dict(type='mimseg.LoadImageFromFile'),
    # the official code perturbs the teacher's view, with greyscale, blur and solarization as well
    dict(type='mimseg.MIMViews', student=dict(size=224), teacher=dict(size=224, color_jitter=0.4),
         scale=(0.08, 1.0), flip_prob=0.5),
]
train_dataloader = dict(batch_size=64, dataset=dict(pipeline=train_pipeline))
optim_wrapper = dict(
    type='mimseg.AmpOptimWrapper',
    optimizer=dict(type='AdamW', lr=7.5e-4, betas=(0.9, 0.98), weight_decay=0.05),
    clip_grad=dict(max_norm=1.0),
    constructor='mimseg.LayerDecayConstructor',
    paramwise_cfg=dict(layer_decay_rate=1.0),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-4, begin=0, end=10, convert_to_iter_based=True),
    dict(
        type='CosineAnnealingLR', T_max=790, eta_min=1e-5, begin=10, end=800,
        convert_to_iter_based=True),
]
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=800)
auto_scale_lr = dict(base_batch_size=2048)
