# MVP, arXiv 2203.05175: BEiT with CLIP in the tokenizer's place. The abstract says so much; the
# projected tokens, unit length and cosine are from memory, so our choice.
model = dict(
    type='mimseg.MaskedImageModeling',
    backbone=dict(
        type='mimseg.ViT', arch='base', img_size=224, patch_size=16, mask_mode='token',
        pos_embed='none', rel_pos_bias='shared', layer_scale=0.1, weight_init='beit'),
    masking=dict(type='mimseg.BlockMasking', ratio=75 / 196, min_patches=16),
    teacher=dict(
        type='mimseg.OpenCLIPTeacher', model='ViT-B-16-quickgelu', weights='hub:openai',
        output='proj'),
    normalization=dict(type='mimseg.L2Normalization'),
    head=dict(type='mimseg.LinearHead'),
    loss=dict(type='mimseg.CosineLoss'),
)
