# Fine-tuning for classification in MAE's way (facebookresearch/mae, main_finetune.py; dBOT's branch main
# and TinyMIM use the same code): the patch tokens' mean through a norm of its own (fc_norm; here ln2)
# that starts afresh, in the place of the final norm; the position embedding, fixed in pretraining, learns.
# The same for all sizes: mixup 0.8, cutmix 1.0 (one of the two a batch), label smoothing 0.1.
# `num_classes` stands in two places: data_preprocessor and head.
model = dict(
    type='mmpretrain.ImageClassifier',
    data_preprocessor=dict(
        type='mmpretrain.ClsDataPreprocessor', num_classes=1000, to_rgb=True,
        mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375]),
    backbone=dict(
        type='mimseg.ViT', arch='base', img_size=224, patch_size=16, pos_embed='learned',
        drop_path_rate=0.1, final_norm=False, out_type='avg_featmap'),
    head=dict(
        type='mmpretrain.LinearClsHead', num_classes=1000, in_channels=768,
        loss=dict(type='mmpretrain.LabelSmoothLoss', label_smooth_val=0.1, mode='original'),
        init_cfg=dict(type='TruncNormal', layer='Linear', std=2e-5)),
    train_cfg=dict(augments=[
        dict(type='mmpretrain.Mixup', alpha=0.8), dict(type='mmpretrain.CutMix', alpha=1.0)]),
)
