# MaskDistill ViT-L/16 with CLIP ViT-L/14, 300 epochs (arXiv 2210.10615). Numbers of BEiT v2's large
# recipe (microsoft/unilm, beit2/PRETRAINING.md): our choice.
_base_ = './maskdistill_vit-base-p16_8xb256-amp-300e_in1k.py'

model = dict(
    backbone=dict(arch='large', layer_scale=1e-5),
    # 196 px for the student's 14x14 tokens, positions resized as BEiT v2 does (microsoft/unilm,
    # issue 921, author)
    teacher=dict(model='ViT-L-14-quickgelu', input_size=196, shifted_sampling=True),
)
train_pipeline = [
    dict(type='mimseg.LoadImageFromFile'),
    dict(type='mimseg.MIMViews', student=dict(size=224), teacher=dict(size=196),
         scale=(0.2, 1.0), flip_prob=0.5, color_jitter=0.4),
]
train_dataloader = dict(batch_size=64, dataset=dict(pipeline=train_pipeline))
