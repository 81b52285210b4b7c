# CLIP regression in the way of EVA, arXiv 2211.07636, with MAE's student and decoder: the model of
# mmpretrain's eva-mae-style_vit-base-p16_16xb256-coslr-400e_in1k.py.
model = dict(
    type='mimseg.MaskedImageModeling',
    backbone=dict(
        type='mimseg.ViT', arch='base', img_size=224, patch_size=16, mask_mode='drop',
        pos_embed='sincos'),
    masking=dict(type='mimseg.RandomMasking', ratio=0.75),
    # with CLIP's own mean and std, where mmpretrain feeds it ImageNet's
    teacher=dict(
        type='mimseg.OpenCLIPTeacher', model='ViT-B-16-quickgelu', weights='hub:openai',
        output='proj'),
    normalization=dict(type='mimseg.NoNormalization'),
    head=dict(type='mimseg.DecoderHead', embed_dims=512, depth=8, num_heads=16),
    loss=dict(type='mimseg.CosineLoss', scale=2.0),
)
