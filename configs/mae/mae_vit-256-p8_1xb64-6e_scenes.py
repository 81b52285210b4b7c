# MAE at demo size on a student 256 wide, the first teacher of TinyMIM's chain: our numbers, chosen for
# two CPU cores.
_base_ = ['../_base_/models/mae.py', '../_base_/datasets/scenes_mim.py',
          '../_base_/schedules/mim_small.py', '../_base_/runtime/pretrain.py', '../_base_/runtime/common.py']

model = dict(
    backbone=dict(
        _delete_=True, type='mimseg.ViT', img_size=64, patch_size=8, mask_mode='drop',
        pos_embed='sincos',
        arch=dict(embed_dims=256, num_layers=6, num_heads=8, feedforward_channels=1024)),
    head=dict(embed_dims=96, depth=1, num_heads=4),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-3, begin=0, end=1, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', begin=1, end=6, convert_to_iter_based=True),
]
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=6)
