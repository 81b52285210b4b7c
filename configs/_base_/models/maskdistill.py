# MaskDistill, arXiv 2210.10615. No official code was released; its author names BEiT v2's as the
# base (microsoft/unilm, issue 1579), whose mechanics these are.
model = dict(
    type='mimseg.MaskedImageModeling',
    # relative positions shared by the blocks, no absolute ones: as BEiT v2; our choice
    backbone=dict(
        type='mimseg.ViT', arch='base', img_size=224, patch_size=16, mask_mode='token',
        pos_embed='none', rel_pos_bias='shared', layer_scale=0.1, weight_init='beit'),
    masking=dict(type='mimseg.BlockMasking', ratio=0.4, min_patches=16),
    # the last block's tokens before ln_post: our choice ('post' and 'proj' are the others). Other
    # teachers by timm: DINO, DeiT, MAE as in configs/dbot/dbot-dino_*.py
    teacher=dict(
        type='mimseg.OpenCLIPTeacher', model='ViT-B-16-quickgelu', weights='hub:openai',
        output='tokens'),
    normalization=dict(type='mimseg.TokenLayerNorm'),
    head=dict(type='mimseg.LinearHead'),
    loss=dict(type='mimseg.SmoothL1Loss', beta=1.0),  # the paper's beta is not known; our choice
)
