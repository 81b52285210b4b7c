# MaskDistill ViT-H/14 with CLIP ViT-L/14, 300 epochs (arXiv 2210.10615). Numbers of BEiT v2's large
# recipe (microsoft/unilm, beit2/PRETRAINING.md): our choice. BEiT v2 has no H/14: drop path 0.2 is
# that of drkostas/MaskDistill-PyTorch.
_base_ = './maskdistill_vit-base-p16_8xb256-amp-300e_in1k.py'

model = dict(
    backbone=dict(arch='huge', patch_size=14, layer_scale=1e-5, drop_path_rate=0.2),  # 102 of 256 masked
    teacher=dict(model='ViT-L-14-quickgelu'),  # 16x16 tokens at 224 px, as the student
)
train_dataloader = dict(batch_size=32)
