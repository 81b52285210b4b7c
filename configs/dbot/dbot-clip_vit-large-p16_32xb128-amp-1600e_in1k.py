# dBOT ViT-L/16 with CLIP ViT-L/14, 1600 epochs (arXiv 2209.03917; the official code, branch beit).
# Layer scale is 0.1 for L/16 too: the official command does not change it.
_base_ = './dbot-clip_vit-base-p16_32xb128-amp-1600e_in1k.py'

model = dict(
    backbone=dict(arch='large'),
    # 196 px for the student's 14x14 tokens, positions resized as in the official code
    teacher=dict(model='ViT-L-14-quickgelu', input_size=196, shifted_sampling=True),
)
train_pipeline = [
    dict(type='mimseg.LoadImageFromFile'),
    dict(type='mimseg.MIMViews', student=dict(size=224), teacher=dict(size=196),
         scale=(0.4, 1.0), flip_prob=0.5, color_jitter=0.4),
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
