# Feature distillation, arXiv 2205.14141 (official code, SwinTransformer/Feature-Distillation): no
# mask, every token, CLS included.
model = dict(
    type='mimseg.MaskedImageModeling',
    backbone=dict(
        type='mimseg.ViT', arch='base', img_size=224, patch_size=16, pos_embed='none',
        rel_pos_bias='shared', layer_scale=0.1, weight_init='beit'),
    masking=None,
    teacher=dict(
        type='mimseg.OpenCLIPTeacher', model='ViT-B-16-quickgelu', weights='hub:openai',
        output='post'),
    normalization=dict(type='mimseg.TokenLayerNorm', eps=1e-5),
    head=dict(type='mimseg.LinearHead'),
    loss=dict(type='mimseg.SmoothL1Loss', beta=2.0),
    positions='all',
    with_cls=True,
)
