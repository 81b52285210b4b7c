# UperNet with dBOT's ViT-B/16 on ADE20K. Numbers of the official code (DOWNSTREAM.md, which is
# right where its config file differs: drop path 0.1 there). 49.5 mIoU is published.
_base_ = './vit-base_upernet_8xb2-160k_ade20k-512x512.py'

model = dict(backbone=dict(drop_path_rate=0.2))
