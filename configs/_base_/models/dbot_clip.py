# dBOT's symmetric system with a CLIP teacher, arXiv 2209.03917 (official code, branch beit).
model = dict(
    type='mimseg.MaskedImageModeling',
    backbone=dict(
        type='mimseg.ViT', arch='base', img_size=224, patch_size=16, mask_mode='token',
        pos_embed='none', rel_pos_bias='shared', layer_scale=0.1, weight_init='beit'),
    masking=dict(type='mimseg.BlockMasking', ratio=78 / 196, min_patches=16),
    # every token through ln_post and the projection
    teacher=dict(
        type='mimseg.OpenCLIPTeacher', model='ViT-B-16-quickgelu', weights='hub:openai',
        output='proj'),
    normalization=dict(type='mimseg.NoNormalization'),
    head=dict(type='mimseg.LinearHead'),
    loss=dict(type='mimseg.CosineLoss', eps=1e-6),
)
