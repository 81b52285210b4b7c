# MaskFeat, arXiv 2112.09133: histograms of oriented gradients; the model of mmpretrain's
# maskfeat_vit-base-p16_8xb256-amp-coslr-300e_in1k.py.
model = dict(
    type='mimseg.MaskedImageModeling',
    backbone=dict(
        type='mimseg.ViT', arch='base', img_size=224, patch_size=16, mask_mode='token',
        pos_embed='learned', weight_init='beit'),  # the initialisation is our choice
    masking=dict(type='mimseg.BlockMasking', ratio=78 / 196, min_patches=15),
    teacher=dict(type='mimseg.HOGTeacher', nbins=9, pool=8, gaussian_window=16),
    normalization=dict(type='mimseg.NoNormalization'),  # each histogram has unit length already
    head=dict(type='mimseg.LinearHead'),
    loss=dict(type='mimseg.L2Loss'),
)
