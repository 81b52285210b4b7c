# data2vec, arXiv 2202.03555, for images (official code, facebookresearch/data2vec_vision): the
# average of the last six blocks of the student's own moving average.
model = dict(
    type='mimseg.MaskedImageModeling',
    backbone=dict(
        type='mimseg.ViT', arch='base', img_size=224, patch_size=16, mask_mode='token',
        pos_embed='none', rel_pos_bias='shared', layer_scale=1e-4, weight_init='beit'),
    masking=dict(type='mimseg.BlockMasking', ratio=120 / 196, min_patches=16),
    teacher=dict(type='mimseg.EMATeacher', momentum=0.9998),
    # each block's output is normalised, then their average
    normalization=dict(
        type='mimseg.TokenLayerNorm', layers=(-6, -5, -4, -3, -2, -1), eps=1e-5, final=True),
    head=dict(type='mimseg.LinearHead'),
    loss=dict(type='mimseg.SmoothL1Loss', beta=2.0),
)
custom_hooks = [dict(type='mimseg.TeacherUpdateHook')]
