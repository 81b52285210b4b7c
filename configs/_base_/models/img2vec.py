# Img2Vec, arXiv 2304.12535. Its abstract gives the framework alone: masked image modelling whose
# targets are the features of a self-supervised teacher, and that a ResNet-50's beat a ViT-L's. The
# student and decoder of MAE, and every setting here, are our choice.
model = dict(
    type='mimseg.MaskedImageModeling',
    backbone=dict(
        type='mimseg.ViT', arch='base', img_size=224, patch_size=16, mask_mode='drop',
        pos_embed='sincos'),
    masking=dict(type='mimseg.RandomMasking', ratio=0.75),
    # DINO's ResNet-50, a file that its authors offer: timm has no such weights
    teacher=dict(
        type='mimseg.TimmTeacher', model='resnet50', stage=3,
        weights='checkpoints/dino_resnet50_pretrain.pth'),
    normalization=dict(type='mimseg.TokenLayerNorm'),
    head=dict(type='mimseg.DecoderHead', embed_dims=512, depth=8, num_heads=16),
    loss=dict(type='mimseg.SmoothL1Loss', beta=1.0),
)
