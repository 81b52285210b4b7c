# As imagenet_cls.py, with the weak augmentation of MAE's linear probe (main_linprobe.py): random resized
# crop (0.08 to 1) and flip.
_base_ = ['./imagenet_cls.py']
train_pipeline = [
    dict(type='mimseg.LoadImageFromFile'),
    dict(type='mmpretrain.RandomResizedCrop', scale=224, backend='pillow', interpolation='bicubic'),
    dict(type='mmpretrain.RandomFlip', prob=0.5, direction='horizontal'),
    dict(type='mmpretrain.PackInputs'),
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
