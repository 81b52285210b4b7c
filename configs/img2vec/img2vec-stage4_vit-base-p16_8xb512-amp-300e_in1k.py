# Img2Vec ViT-B/16 (arXiv 2304.12535) with DINO's ResNet-50, its last stage at 448 px. All of it is
# our choice: the paper's abstract tells the framework and that a ResNet-50 beats a ViT-L as teacher. The
# numbers are MAE's, of mmpretrain's mae_vit-base-p16_8xb512-amp-coslr-300e_in1k.py.
_base_ = ['../_base_/models/img2vec.py', '../_base_/datasets/imagenet_mim.py',
          '../_base_/runtime/pretrain.py', '../_base_/runtime/common.py']

model = dict(
    masking=dict(ratio=0.75),
    teacher=dict(stage=4),  # 14x14 tokens of 2048 from an image of twice the size
    head=dict(embed_dims=512, depth=8, num_heads=16),
)
train_pipeline = [
    dict(type='mimseg.LoadImageFromFile'),
    dict(type='mimseg.MIMViews', student=dict(size=224), teacher=dict(size=448),
         scale=(0.2, 1.0), flip_prob=0.5),
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
