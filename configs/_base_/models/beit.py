# BEiT, arXiv 2106.08254: the ids of DALL-E's tokenizer; the model of mmpretrain's
# beit_beit-base-p16_8xb256-amp-coslr-300e_in1k.py.
model = dict(
    type='mimseg.MaskedImageModeling',
    backbone=dict(
        type='mimseg.ViT', arch='base', img_size=224, patch_size=16, mask_mode='token',
        pos_embed='none', rel_pos_bias='shared', layer_scale=0.1, weight_init='beit'),
    masking=dict(type='mimseg.BlockMasking', ratio=75 / 196, min_patches=16),
    # 8 pixels a token, so 112 px for a 14x14 grid
    teacher=dict(
        type='mimseg.TokenizerTeacher', tokenizer=dict(type='mmpretrain.DALL-E'), input_size=112,
        weights='https://mmassets.onedl.ai/mmselfsup/1.x/target_generator_ckpt/dalle_encoder.pth'),
    normalization=dict(type='mimseg.NoNormalization', ids=True),
    head=dict(type='mimseg.LinearHead'),
    loss=dict(type='mimseg.CrossEntropyLoss'),
)
