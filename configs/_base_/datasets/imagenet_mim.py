# ImageNet-1k without labels: a folder of images, whatever its sub-folders. Each recipe has crops and batch
# of its own.
data_root = 'data/imagenet/train'
train_dataloader = dict(
    num_workers=8,
    persistent_workers=True,
    drop_last=True,
    sampler=dict(type='DefaultSampler', shuffle=True),
    collate_fn=dict(type='default_collate'),
    dataset=dict(type='mmpretrain.CustomDataset', data_root=data_root, with_label=False),
)
