# UperNet with ViT-B/16 on ADE20K at 640 px, BEiT-style. Numbers of mmseg's
# beit-base_upernet_8xb2-160k_ade20k-640x640.py: 53.08 mIoU there, 53.84 with scales and flips, with
# weights pretrained and fine-tuned on ImageNet-22k.
_base_ = './vit-base_upernet_8xb2-160k_ade20k-512x512.py'

model = dict(
    backbone=dict(  # as vit-base-beit at 512 px has it
        img_size=640, pos_embed='none', rel_pos_resize='geometric', layer_scale=0.1),
    data_preprocessor=dict(size=(640, 640)),
    test_cfg=dict(crop_size=(640, 640), stride=(426, 426)),
)
_base_.train_pipeline[2].scale = (2560, 640)  # RandomResize
_base_.train_pipeline[3].crop_size = (640, 640)
_base_.test_pipeline[1].scale = (2560, 640)  # Resize
tta_pipeline = [
    dict(type='mimseg.LoadImageFromFile', broken='raise'),
    dict(type='TestTimeAug', transforms=[
        [dict(type='Resize', scale=(int(ratio * 2560), int(ratio * 640)), keep_ratio=True)
         for ratio in (0.5, 0.75, 1.0, 1.25, 1.5, 1.75)],
        *_base_.tta_pipeline[1].transforms[1:],
    ]),
]
train_dataloader = dict(dataset=dict(pipeline=_base_.train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=_base_.test_pipeline))
test_dataloader = val_dataloader
optim_wrapper = dict(optimizer=dict(lr=3e-5), paramwise_cfg=dict(layer_decay_rate=0.9))
