# A linear probe in MAE's way (facebookresearch/mae, main_linprobe.py): the backbone is fixed, CLS after the
# final norm goes through a BatchNorm without weights (eps 1e-6) into a linear layer drawn with 0.01.
# `num_classes` stands in the head.
model = dict(
    type='mmpretrain.ImageClassifier',
    data_preprocessor=dict(
        type='mmpretrain.ClsDataPreprocessor', to_rgb=True,
        mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375]),
    backbone=dict(
        type='mimseg.ViT', arch='base', img_size=224, patch_size=16, pos_embed='sincos',
        out_type='cls_token', frozen=True),
    neck=dict(type='mmpretrain.ClsBatchNormNeck', input_features=768, affine=False, eps=1e-6),
    head=dict(
        type='mmpretrain.LinearClsHead', num_classes=1000, in_channels=768,
        loss=dict(type='mmpretrain.CrossEntropyLoss'),
        init_cfg=dict(type='TruncNormal', layer='Linear', std=0.01)),
)
