# SimMIM, arXiv 2111.09886: raw pixels, mask tokens, a linear head, absolute error. The ViT of its
# official code; mmpretrain has the Swin variant.
model = dict(
    type='mimseg.MaskedImageModeling',
    backbone=dict(
        type='mimseg.ViT', arch='base', img_size=224, patch_size=16, mask_mode='token',
        pos_embed='none', rel_pos_bias='shared', layer_scale=0.1, weight_init='beit'),
    # section 3.2: squares of 32 pixels are masked as a whole
    masking=dict(type='mimseg.RandomMasking', ratio=0.6, unit=2),
    teacher=dict(type='mimseg.PixelTeacher'),
    normalization=dict(type='mimseg.NoNormalization'),
    head=dict(type='mimseg.LinearHead'),
    loss=dict(type='mimseg.L1Loss'),
)
