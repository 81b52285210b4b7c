# MILAN, arXiv 2208.06049: CLIP's attention chooses what stays visible, a prompting decoder updates
# mask tokens alone, and every position counts; the model of mmpretrain's
# milan_vit-base-p16_16xb256-amp-coslr-400e_in1k.py.
model = dict(
    type='mimseg.MaskedImageModeling',
    backbone=dict(
        type='mimseg.ViT', arch='base', img_size=224, patch_size=16, mask_mode='drop',
        pos_embed='sincos'),
    masking=dict(type='mimseg.AttentionMasking', ratio=0.75, teacher='teacher'),
    # with CLIP's own mean and std, where mmpretrain feeds it ImageNet's
    teacher=dict(
        type='mimseg.OpenCLIPTeacher', model='ViT-B-16-quickgelu', weights='hub:openai',
        output='proj'),
    normalization=dict(type='mimseg.L2Normalization'),
    head=dict(type='mimseg.CrossAttentionDecoderHead', embed_dims=512, depth=8, num_heads=16),
    loss=dict(type='mimseg.CosineLoss', scale=2.0),
    positions='all',
    with_cls=True,
)
