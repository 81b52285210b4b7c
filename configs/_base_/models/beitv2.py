# BEiT v2, arXiv 2208.06366: the ids of VQ-KD, and patch aggregation; the model of mmpretrain's
# beitv2_beit-base-p16_8xb256-amp-coslr-300e_in1k.py.
model = dict(
    type='mimseg.MaskedImageModeling',
    backbone=dict(  # the head has the final norm
        type='mimseg.ViT', arch='base', img_size=224, patch_size=16, mask_mode='token',
        pos_embed='none', rel_pos_bias='shared', layer_scale=0.1, weight_init='beit',
        final_norm=False),
    masking=dict(type='mimseg.BlockMasking', ratio=75 / 196, min_patches=16),
    teachers=dict(
        vqkd=dict(
            type='mimseg.TokenizerTeacher', tokenizer=dict(type='mmpretrain.VQKD'),
            weights='https://mmassets.onedl.ai/mmselfsup/1.x/target_generator_ckpt/vqkd_encoder.pth')),
    objectives=[
        dict(
            name='vqkd', teacher='vqkd',
            normalization=dict(type='mimseg.NoNormalization', ids=True),
            head=dict(
                type='mimseg.PatchAggregationHead', in_layer=8, depth=2, num_heads=12,
                layer_scale=0.1),
            loss=dict(type='mimseg.CrossEntropyLoss'),
            weight=2.0),  # the loss is the mean of the two predictions' losses, the paper's the sum
    ],
)
