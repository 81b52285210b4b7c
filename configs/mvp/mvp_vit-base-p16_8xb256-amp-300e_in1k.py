# MVP ViT-B/16, 300 epochs (arXiv 2203.05175): BEiT with CLIP in the tokenizer's place. The abstract says
# so much; the projected tokens, unit length and cosine are from memory, so our choice. The other numbers
# are our choice too: BEiT's, of mmpretrain's beit_beit-base-p16_8xb256-amp-coslr-300e_in1k.py.
_base_ = ['../_base_/datasets/imagenet_mim.py', '../_base_/runtime/pretrain.py',
          '../_base_/runtime/common.py']

model = dict(
    type='mimseg.MaskedImageModeling',
    backbone=dict(
        type='mimseg.ViT', arch='base', img_size=224, patch_size=16, mask_mode='token',
        pos_embed='none', rel_pos_bias='shared', layer_scale=0.1, drop_path_rate=0.1,
        weight_init='beit'),
    masking=dict(type='mimseg.BlockMasking', ratio=75 / 196, min_patches=16),
    teacher=dict(
        type='mimseg.OpenCLIPTeacher', model='ViT-B-16-quickgelu', weights='hub:openai',
        output='proj'),
    normalization=dict(type='mimseg.L2Normalization'),
    head=dict(type='mimseg.LinearHead'),
    loss=dict(type='mimseg.CosineLoss'),
)
train_pipeline = [
    dict(type='mimseg.LoadImageFromFile'),
    dict(type='mimseg.MIMViews', student=dict(size=224),
         scale=(0.08, 1.0), flip_prob=0.5, color_jitter=0.4),
]
train_dataloader = dict(batch_size=256, dataset=dict(pipeline=train_pipeline))
optim_wrapper = dict(
    type='mimseg.AmpOptimWrapper',
    optimizer=dict(type='AdamW', lr=1.5e-3, betas=(0.9, 0.999), weight_decay=0.05),
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
