# UperNet with TinyMIM's ViT-B/16 on ADE20K. Numbers of the official code (its folder Segmentation).
# 52.2 mIoU is published (arXiv 2301.01296, table 3); the released log ends at 52.47.
_base_ = './vit-base_upernet_8xb2-160k_ade20k-512x512.py'

optim_wrapper = dict(paramwise_cfg=dict(layer_decay_rate=0.75))
