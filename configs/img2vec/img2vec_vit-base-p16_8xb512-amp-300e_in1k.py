# Img2Vec ViT-B/16 with DINO's ResNet-50, its third stage at 224 px, 300 epochs (arXiv 2304.12535). Its
# abstract gives the framework alone: masked image modeling whose targets are the features of a
# self-supervised teacher, and that a ResNet-50's beat a ViT-L's. The student and decoder of MAE, and every
# setting here, are our choice; the numbers are MAE's, of mmpretrain's
# mae_vit-base-p16_8xb512-amp-coslr-300e_in1k.py.
_base_ = ['../_base_/datasets/imagenet_mim.py', '../_base_/runtime/pretrain.py',
          '../_base_/runtime/common.py']

model = dict(
    type='mimseg.MaskedImageModeling',
    backbone=dict(
        type='mimseg.ViT', arch='base', img_size=224, patch_size=16, mask_mode='drop',
        pos_embed='sincos'),
    masking=dict(type='mimseg.RandomMasking', ratio=0.75),
    # DINO's ResNet-50, a file that its authors offer: timm has no such weights. 14x14 tokens of 1024
    teacher=dict(
        type='mimseg.TimmTeacher', model='resnet50', stage=3,
        weights='checkpoints/dino_resnet50_pretrain.pth'),
    normalization=dict(type='mimseg.TokenLayerNorm'),
    head=dict(type='mimseg.DecoderHead', embed_dims=512, depth=8, num_heads=16),
    loss=dict(type='mimseg.SmoothL1Loss', beta=1.0),
)
train_pipeline = [
    dict(type='mimseg.LoadImageFromFile'),
    dict(type='mimseg.MIMViews', student=dict(size=224), scale=(0.2, 1.0), flip_prob=0.5),
]
train_dataloader = dict(batch_size=512, dataset=dict(pipeline=train_pipeline))
optim_wrapper = dict(
    type='mimseg.AmpOptimWrapper',
    optimizer=dict(type='AdamW', lr=2.4e-3, betas=(0.9, 0.95), weight_decay=0.05),
    constructor='mimseg.LayerDecayConstructor',
    paramwise_cfg=dict(layer_decay_rate=1.0),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-4, begin=0, end=40, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', T_max=260, begin=40, end=300, convert_to_iter_based=True),
]
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=300)
auto_scale_lr = dict(base_batch_size=4096)
