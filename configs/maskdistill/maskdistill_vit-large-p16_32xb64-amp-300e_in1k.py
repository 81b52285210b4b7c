# MaskDistill ViT-L/16 with CLIP ViT-B/16, 300 epochs (arXiv 2210.10615). Numbers of BEiT v2's large
# recipe (microsoft/unilm, beit2/PRETRAINING.md): our choice.
_base_ = './maskdistill_vit-base-p16_8xb256-amp-300e_in1k.py'

model = dict(backbone=dict(arch='large', layer_scale=1e-5))
train_dataloader = dict(batch_size=64)
