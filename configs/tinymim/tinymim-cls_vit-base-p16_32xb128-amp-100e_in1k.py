# TinyMIM ViT-B/16 on the class token, not relations, from MAE ViT-L/16 (arXiv 2301.01296, Eq. 6).
# Numbers of the official code; 100 epochs as the paper's ablations (section 4.2). The cross-entropy
# differs from the paper's divergence by the teacher's entropy, which has no gradient. The
# projection to the teacher's width is our choice.
_base_ = './tinymim_vit-base-p16_32xb128-amp-300e_in1k.py'

model = dict(
    backbone=dict(last_block_heads=None),
    # the 18th of 24 blocks
    normalization=dict(
        _delete_=True, type='mimseg.SoftmaxNormalization', temperature=1.0, layers=(17,)),
    head=dict(_delete_=True, type='mimseg.LinearHead'),
    loss=dict(_delete_=True, type='mimseg.CrossEntropyLoss', temperature=1.0),
    positions='cls',
)
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-4, begin=0, end=15, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', T_max=85, begin=15, end=100, convert_to_iter_based=True),
]
train_cfg = dict(max_epochs=100)
