# dBOT on images of 64 px, two stages: our numbers, chosen for two CPU cores. The first teacher is the
# random patch embedding alone (depth 0, as in the official recipes of L/16 and H/14).
_base_ = './dbot_vit-mini-p8_1xb64-2x20e_scenes.py'

data_root = 'data/tiny-imagenet/train'
train_pipeline = [
    dict(type='mimseg.LoadImageFromFile'),
    dict(type='mimseg.MIMViews', student=dict(size=64), scale=(0.2, 1.0), flip_prob=0.5),
]
train_dataloader = dict(dataset=dict(data_root=data_root, pipeline=train_pipeline))
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-3, begin=0, end=1, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', begin=1, end=6, convert_to_iter_based=True),
]
train_cfg = dict(max_epochs=6)
stages = [
    dict(name='stage1', options={
        'model.teacher.depth': 0, 'train_cfg.max_epochs': 3, 'param_scheduler.1.end': 3}),
    dict(name='stage2', teacher='stage1'),
]
