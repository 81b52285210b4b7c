# Generated scenes without labels (`mimseg scenes`), or any folder of small images.
data_root = 'data/scenes/unlabelled'
train_pipeline = [
    dict(type='mimseg.LoadImageFromFile'),
    dict(type='mimseg.MIMViews', student=dict(size=64), scale=(0.4, 1.0), flip_prob=0.5),
]
train_dataloader = dict(
    batch_size=64,
    num_workers=1,
    persistent_workers=True,
    drop_last=True,
    sampler=dict(type='DefaultSampler', shuffle=True),
    collate_fn=dict(type='default_collate'),
    dataset=dict(
        type='mmpretrain.CustomDataset', data_root=data_root, with_label=False,
        pipeline=train_pipeline),
)
