# TinyMIM ViT-B/16 fine-tuned, 100 epochs (arXiv 2301.01296; the official code's README.md). All blocks
# have 12 heads here, the last one too, which had 16 in pretraining: as the official code.
_base_ = './mae_vit-base-p16_32xb32-amp-100e_in1k.py'

model = dict(backbone=dict(drop_path_rate=0.2))
train_dataloader = dict(batch_size=128)
