# Linear segmentation on frozen features, CamVid: the data and the schedule of UperNet beside it,
# batch norm and a 1x1 convolution on the last block's normalized patch tokens. Our numbers.
_base_ = './upernet_vit-mini-p8_1xb8-300i_camvid-120x160.py'

model = dict(
    backbone=dict(out_indices=(-1,), drop_path_rate=0.0, final_norm=True, frozen=True),
    neck=None,
    decode_head=dict(
        _delete_=True, type='mimseg.LinearSegHead', in_channels=128, num_classes=11,
        ignore_index=11, norm_cfg=dict(type='BN', requires_grad=True), align_corners=False,
        loss_decode=dict(type='mmseg.CrossEntropyLoss', use_sigmoid=False, loss_weight=1.0)),
)
optim_wrapper = dict(optimizer=dict(lr=1e-2, weight_decay=1e-4), clip_grad=None)
