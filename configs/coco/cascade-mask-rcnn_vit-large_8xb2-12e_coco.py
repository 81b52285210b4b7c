# Cascade Mask R-CNN with ViT-L/16, iBOT's lineage. Numbers of dBOT's code (its folder
# evaluation/object_detection) and DOWNSTREAM.md, which is right where they differ (12 epochs, layer
# decay 0.75). For students of CLIP it has lr=7e-5 and layer_decay_rate=0.9.
# What such students want of the backbone, and what is ours: see ViT-B's config.
_base_ = './cascade-mask-rcnn_vit-base_8xb2-12e_coco.py'

model = dict(
    backbone=dict(arch='large', out_indices=(7, 11, 15, 23)),
    neck=[
        dict(type='mimseg.FeaturePyramid', in_channels=1024, scales=(4, 2, 1, 0.5), norm='SyncBN'),
        dict(type='FPN', in_channels=[1024] * 4, out_channels=256, num_outs=5)])
