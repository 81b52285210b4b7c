# Img2Vec ViT-B/16 (arXiv 2304.12535) with the last stage of DINO's ResNet-50, at 448 px: our choice.
_base_ = './img2vec_vit-base-p16_8xb512-amp-300e_in1k.py'

model = dict(teacher=dict(stage=4))  # 14x14 tokens of 2048 from an image of twice the size
train_pipeline = [
    dict(type='mimseg.LoadImageFromFile'),
    dict(type='mimseg.MIMViews', student=dict(size=224), teacher=dict(size=448),
         scale=(0.2, 1.0), flip_prob=0.5),
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
