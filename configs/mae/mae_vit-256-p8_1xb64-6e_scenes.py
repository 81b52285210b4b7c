# MAE at demo size on a student 256 wide, the first teacher of TinyMIM's chain: our numbers, chosen for
# two CPU cores.
_base_ = './mae_vit-mini-p8_1xb64-40e_scenes.py'

model = dict(
    backbone=dict(
        arch=dict(
            _delete_=True, embed_dims=256, num_layers=6, num_heads=8, feedforward_channels=1024)))
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-3, begin=0, end=1, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', begin=1, end=6, convert_to_iter_based=True),
]
train_cfg = dict(max_epochs=6)
