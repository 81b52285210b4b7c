# MAE, arXiv 2111.06377: pixels, dropped patches, a decoder, squared error.
model = dict(
    type='mimseg.MaskedImageModeling',
    backbone=dict(
        type='mimseg.ViT', arch='base', img_size=224, patch_size=16, mask_mode='drop',
        pos_embed='sincos'),
    masking=dict(type='mimseg.RandomMasking', ratio=0.75),
    teacher=dict(type='mimseg.PixelTeacher'),
    # section 4.1: pixels normalised in each patch; the official code's variance is unbiased
    normalization=dict(type='mimseg.TokenLayerNorm', unbiased=True),
    head=dict(type='mimseg.DecoderHead', embed_dims=512, depth=8, num_heads=16),
    loss=dict(type='mimseg.L2Loss'),
)
