# BEiT v2 ViT-B/16, 300 epochs (arXiv 2208.06366): the ids of VQ-KD, and patch aggregation. Model and
# numbers of mmpretrain's beitv2_beit-base-p16_8xb256-amp-coslr-300e_in1k.py; 1600 epochs have drop path
# 0.1 and a beta2 of 0.999.
_base_ = ['../_base_/datasets/imagenet_mim.py', '../_base_/runtime/pretrain.py',
          '../_base_/runtime/common.py']

model = dict(
    type='mimseg.MaskedImageModeling',
    backbone=dict(  # the head has the final norm
        type='mimseg.ViT', arch='base', img_size=224, patch_size=16, mask_mode='token',
        pos_embed='none', rel_pos_bias='shared', layer_scale=0.1, drop_path_rate=0.0,
        weight_init='beit', final_norm=False),
    masking=dict(type='mimseg.BlockMasking', ratio=75 / 196, min_patches=16),
    teachers=dict(
        vqkd=dict(
            type='mimseg.TokenizerTeacher', tokenizer=dict(type='mmpretrain.VQKD'),
            weights='https://mmassets.onedl.ai/mmselfsup/1.x/target_generator_ckpt/vqkd_encoder.pth')),
    objectives=[
        dict(
            name='vqkd', teacher='vqkd',
            normalization=dict(type='mimseg.NoNormalization', ids=True),
            head=dict(
                type='mimseg.PatchAggregationHead', in_layer=8, depth=2, num_heads=12,
                layer_scale=0.1),
            loss=dict(type='mimseg.CrossEntropyLoss'),
            weight=2.0),  # the loss is the mean of the two predictions' losses, the paper's the sum
    ],
)
train_pipeline = [
    dict(type='mimseg.LoadImageFromFile'),
    dict(type='mimseg.MIMViews', student=dict(size=224),
         scale=(0.2, 1.0), flip_prob=0.5, color_jitter=0.4),
]
train_dataloader = dict(batch_size=256, dataset=dict(pipeline=train_pipeline))
optim_wrapper = dict(
    type='mimseg.AmpOptimWrapper',
    optimizer=dict(type='AdamW', lr=1.5e-3, betas=(0.9, 0.98), weight_decay=0.05),
    clip_grad=dict(max_norm=3.0),
    constructor='mimseg.LayerDecayConstructor',
    paramwise_cfg=dict(layer_decay_rate=1.0),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-4, begin=0, end=10, convert_to_iter_based=True),
    dict(
        type='CosineAnnealingLR', T_max=290, eta_min=1e-5, begin=10, end=300,
        convert_to_iter_based=True),
]
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=300)
auto_scale_lr = dict(base_batch_size=2048)
