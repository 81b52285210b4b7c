# MAE at demo size: our numbers, chosen for two CPU cores.
_base_ = ['../_base_/models/mae.py', '../_base_/datasets/scenes_mim.py',
          '../_base_/schedules/mim_small.py', '../_base_/runtime/pretrain.py']

model = dict(
    backbone=dict(
        arch='mini',
        img_size=64, patch_size=8),
    head=dict(embed_dims=96, depth=1, num_heads=4),
)
