# MaskDistill (arXiv 2210.10615) at demo size: our numbers, chosen for two CPU cores. The teacher has the
# shape of a CLIP image tower (open_clip, QuickGELU as OpenAI's) and random weights: it needs no download,
# and shows that the way works, not what CLIP's features are worth.
_base_ = ['../_base_/datasets/scenes_mim.py', '../_base_/schedules/mim_small.py',
          '../_base_/runtime/pretrain.py', '../_base_/runtime/common.py']

model = dict(
    type='mimseg.MaskedImageModeling',
    backbone=dict(
        type='mimseg.ViT', arch='mini', img_size=64, patch_size=8, mask_mode='token',
        pos_embed='none', rel_pos_bias='shared', layer_scale=0.1, weight_init='beit'),
    masking=dict(type='mimseg.BlockMasking', ratio=0.4),
    teacher=dict(
        type='mimseg.OpenCLIPTeacher', weights='random',
        model=dict(
            embed_dim=128, quick_gelu=True,
            vision_cfg=dict(image_size=64, patch_size=8, width=128, layers=4, head_width=32))),
    normalization=dict(type='mimseg.TokenLayerNorm'),
    head=dict(type='mimseg.LinearHead'),
    loss=dict(type='mimseg.SmoothL1Loss', beta=1.0),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-3, begin=0, end=1, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', begin=1, end=10, convert_to_iter_based=True),
]
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=10)
