# ViTDet (arXiv 2203.16527): Mask R-CNN with ViT-H/16. Numbers of its code (detectron2,
# projects/ViTDet/configs/COCO/mask_rcnn_vitdet_h_75ep.py), 56.7 box AP there with MAE's weights,
# but for the schedule: 100 epochs, as B and L, are our choice. Its 75 epochs are max_iters=138281,
# end=138281 and milestones=[122916, 133159].
# Patches of 16 px, as in MAE's p14to16 file: `mimseg convert --patch-size 16` makes one of a ViT-H/14.
# Ours too, beside what ViT-B's config says: blocks are recomputed (theirs has one image a process);
# no weight decay on norms and position embeddings, which its code for ViT-H decays.
_base_ = './mask-rcnn_vit-base-vitdet_16xb4-100e_coco.py'

model = dict(
    backbone=dict(arch='huge', drop_path_rate=0.5, activation_checkpointing=True),
    neck=dict(in_channels=1280))
optim_wrapper = dict(paramwise_cfg=dict(layer_decay_rate=0.9))
