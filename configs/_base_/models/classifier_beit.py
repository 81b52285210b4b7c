# Fine-tuning for classification in BEiT's way (microsoft/unilm, beit2/run_class_finetuning.py; dBOT's
# branch beit has the same code): relative positions a block, filled from the shared table of the
# pretraining; layer scale; the patch tokens' mean through a norm of its own. The head's weights are drawn
# with 0.02 and scaled by init_scale 0.001.
# The same for all sizes: mixup 0.8, cutmix 1.0 (one of the two a batch), label smoothing 0.1.
# `num_classes` stands in two places: data_preprocessor and head.
model = dict(
    type='mmpretrain.ImageClassifier',
    data_preprocessor=dict(
        type='mmpretrain.ClsDataPreprocessor', num_classes=1000, to_rgb=True,
        mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375]),
    backbone=dict(
        type='mimseg.ViT', arch='base', img_size=224, patch_size=16, pos_embed='none',
        rel_pos_bias='per_block', rel_pos_resize='geometric', layer_scale=0.1, weight_init='beit',
        drop_path_rate=0.1, final_norm=False, out_type='avg_featmap'),
    head=dict(
        type='mmpretrain.LinearClsHead', num_classes=1000, in_channels=768,
        loss=dict(type='mmpretrain.LabelSmoothLoss', label_smooth_val=0.1, mode='original'),
        init_cfg=dict(type='TruncNormal', layer='Linear', std=2e-5)),
    train_cfg=dict(augments=[
        dict(type='mmpretrain.Mixup', alpha=0.8), dict(type='mmpretrain.CutMix', alpha=1.0)]),
)
