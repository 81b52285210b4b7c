# dBOT, arXiv 2209.03917, the staged encoder-decoder system (official code, branch main).
model = dict(
    type='mimseg.MaskedImageModeling',
    backbone=dict(
        type='mimseg.ViT', arch='base', img_size=224, patch_size=16, mask_mode='drop',
        pos_embed='sincos', drop_path_rate=0.2),
    masking=dict(type='mimseg.RandomMasking', ratio=0.75),
    # the first teacher is a copy of the student's own initial weights; no final norm
    teacher=dict(type='mimseg.ViTTeacher', init='student', final_norm=False),
    # the official code: unbiased variance, eps 1e-6 under the root
    normalization=dict(type='mimseg.TokenLayerNorm', unbiased=True, eps=1e-6),
    head=dict(
        type='mimseg.DecoderHead', embed_dims=512, depth=8, num_heads=16, drop_path_rate=0.2),
    loss=dict(type='mimseg.SmoothL1Loss', beta=2.0),
    with_cls=True,  # the official code counts the CLS position as masked
)
