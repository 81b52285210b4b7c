# Masked distillation from CLIP, DINO and DINOv2 at once, ViT-B/16, 300 epochs: method and numbers are
# ours. One objective and one MLP per teacher; the rest of the recipe is that of
# maskdistill_vit-base-p16_8xb256-amp-300e_in1k.py.
_base_ = ['../_base_/datasets/imagenet_mim.py', '../_base_/runtime/pretrain.py',
          '../_base_/runtime/common.py']

target = dict(
    # arXiv 2410.01680: all targets get the same variance, so all weights are 1
    normalization=dict(type='mimseg.PHISNormalization', warmup_steps=100),
    head=dict(type='mimseg.MLPHead', depth=2),
    loss=dict(type='mimseg.SmoothL1Loss', beta=1.0))
model = dict(
    type='mimseg.MaskedImageModeling',
    backbone=dict(
        type='mimseg.ViT', arch='base', img_size=224, patch_size=16, mask_mode='token',
        pos_embed='none', rel_pos_bias='shared', layer_scale=0.1, drop_path_rate=0.0,
        weight_init='beit'),
    masking=dict(type='mimseg.BlockMasking', ratio=0.4, min_patches=16),  # 78 of 196
    teachers=dict(
        clip=dict(
            type='mimseg.OpenCLIPTeacher', model='ViT-B-16-quickgelu', weights='hub:openai',
            output='post'),
        dino=dict(
            type='mimseg.TimmTeacher', model='vit_base_patch16_224.dino', weights='hub',
            final_norm=True),
        # a /14 network: 196 px for a 14x14 grid
        dinov2=dict(
            type='mimseg.TimmTeacher', model='vit_base_patch14_dinov2.lvd142m', weights='hub',
            final_norm=True, input_size=196)),
    objectives=[
        dict(name='clip', teacher='clip', **target),
        dict(name='dino', teacher='dino', **target),
        dict(name='dinov2', teacher='dinov2', **target),
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
