# Mask R-CNN on CamVid's things, attention in windows of 4x4 patches but for every third block, with
# ViTDet's decomposed relative positions: our numbers, the proportions of ViTDet's ViT-B.
_base_ = './mask-rcnn_vit-mini-p8_1xb8-700i_camvid-128x128.py'

model = dict(
    backbone=dict(
        with_cls_token=False, window_size=4, global_blocks=(2, 5), decomposed_rel_pos=True))
