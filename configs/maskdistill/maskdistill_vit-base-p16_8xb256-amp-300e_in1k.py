# MaskDistill ViT-B/16 with CLIP ViT-B/16, 300 epochs (arXiv 2210.10615). No official code was released;
# its author names BEiT v2's as the base (microsoft/unilm, issue 1579), whose mechanics these are. Numbers
# of BEiT v2's base recipe (microsoft/unilm, beit2/PRETRAINING.md); MaskDistill's own numbers are not
# known, so this is our choice.
_base_ = ['../_base_/datasets/imagenet_mim.py', '../_base_/runtime/pretrain.py',
          '../_base_/runtime/common.py']

model = dict(
    type='mimseg.MaskedImageModeling',
    # relative positions shared by the blocks, no absolute ones: as BEiT v2; our choice
    backbone=dict(
        type='mimseg.ViT', arch='base', img_size=224, patch_size=16, mask_mode='token',
        pos_embed='none', rel_pos_bias='shared', layer_scale=0.1, drop_path_rate=0.0,
        weight_init='beit'),
    masking=dict(type='mimseg.BlockMasking', ratio=0.4, min_patches=16),  # 78 of 196
    # the last block's tokens before ln_post: our choice ('post' and 'proj' are the others). Other
    # teachers by timm: DINO, DeiT, MAE as in configs/dbot/dbot-dino_*.py
    teacher=dict(
        type='mimseg.OpenCLIPTeacher', model='ViT-B-16-quickgelu', weights='hub:openai',
        output='tokens'),
    normalization=dict(type='mimseg.TokenLayerNorm'),
    head=dict(type='mimseg.LinearHead'),
    loss=dict(type='mimseg.SmoothL1Loss', beta=1.0),  # the paper's beta is not known; our choice
)
train_pipeline = [
    dict(type='mimseg.LoadImageFromFile'),
    # BEiT v2: jitter before the crop, so both see it
    dict(type='mimseg.MIMViews', student=dict(size=224),
         scale=(0.2, 1.0), flip_prob=0.5, color_jitter=0.4),
]
train_dataloader = dict(batch_size=256, dataset=dict(pipeline=train_pipeline))
optim_wrapper = dict(
    type='mimseg.AmpOptimWrapper',
    # BEiT v2, PRETRAINING.md, for 300 epochs
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
