# ViTDet (arXiv 2203.16527, section 3 and appendix): Mask R-CNN with ViT-B/16; windows, decomposed relative
# positions, a pyramid from the last map, layer norms and two convolutions in the RPN, as in mmdet's
# project ViTDet. `global_blocks` is left at the last block of each quarter. Numbers of its code (detectron2,
# projects/ViTDet/configs/COCO/mask_rcnn_vitdet_b_100ep.py) and of mmdet's project ViTDet, whose 16
# processes of 4 images these are. With MAE's weights it reaches 51.6 box AP there.
# Ours: bfloat16 for float16; position embeddings kept at 64x64, not resized from 14x14 every time;
# no weight decay on biases (its code spares norms and position embeddings alone).
_base_ = ['../_base_/models/mask-rcnn_vit-fpn.py', '../_base_/datasets/coco_instance.py',
          '../_base_/runtime/detection.py', '../_base_/runtime/common.py']

norm_cfg = dict(type='mmpretrain.LN2d', eps=1e-6)
model = dict(
    # images of 1024 px at most, so all become squares: the position embeddings are learned for one
    data_preprocessor=dict(pad_size_divisor=1024),
    backbone=dict(
        arch='base', img_size=1024, with_cls_token=False, window_size=14, decomposed_rel_pos=True,
        drop_path_rate=0.1, out_indices=(-1,)),
    neck=dict(
        _delete_=True, type='mimseg.SimpleFeaturePyramid', in_channels=768, out_channels=256,
        scales=(4, 2, 1, 0.5), num_outs=5),
    rpn_head=dict(num_convs=2),
    roi_head=dict(
        bbox_head=dict(
            type='Shared4Conv1FCBBoxHead', conv_out_channels=256, norm_cfg=norm_cfg),
        mask_head=dict(norm_cfg=norm_cfg)),
)
# Large-scale jittering (arXiv 2012.07177): resized by 0.1 to 2.0, cropped to 1024 px. What is smaller is
# padded by the model's preprocessor, in tests too (pad_size_divisor). As mmdet's
# common/lsj-100e_coco-instance.py; the test size is ViTDet's.
train_pipeline = [
    dict(type='mimseg.LoadImageFromFile'),
    dict(type='LoadAnnotations', with_bbox=True, with_mask=True),
    dict(type='RandomResize', scale=(1024, 1024), ratio_range=(0.1, 2.0), keep_ratio=True),
    dict(type='RandomCrop', crop_type='absolute_range', crop_size=(1024, 1024),
         recompute_bbox=True, allow_negative_crop=True),
    dict(type='FilterAnnotations', min_gt_bbox_wh=(1e-2, 1e-2)),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackDetInputs'),
]
test_pipeline = [
    dict(type='mimseg.LoadImageFromFile', broken='raise'),
    dict(type='Resize', scale=(1024, 1024), keep_ratio=True),
    dict(type='LoadAnnotations', with_bbox=True, with_mask=True),
    dict(type='PackDetInputs',
         meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor')),
]
train_dataloader = dict(
    batch_size=4, sampler=dict(type='InfiniteSampler', shuffle=True),
    dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
optim_wrapper = dict(
    type='mimseg.AmpOptimWrapper',
    optimizer=dict(type='AdamW', lr=1e-4, betas=(0.9, 0.999), weight_decay=0.1),
    constructor='mimseg.LayerDecayConstructor',
    paramwise_cfg=dict(layer_decay_rate=0.7),
)
# 100 epochs of 118000 images in batches of 64; steps after 88.9 and 96.3 of them
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-3, by_epoch=False, begin=0, end=250),
    dict(type='MultiStepLR', by_epoch=False, begin=0, end=184375,
         milestones=[163889, 177546], gamma=0.1),
]
train_cfg = dict(type='IterBasedTrainLoop', max_iters=184375, val_interval=5000)
default_hooks = dict(checkpoint=dict(interval=5000))
auto_scale_lr = dict(base_batch_size=64)
