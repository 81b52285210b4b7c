# MaskDistill ViT-B/16 by self-distillation: a student of CLIP ViT-B/16 teaches the next one (the
# method is arXiv 2210.10615). Two stages of 300 epochs are our choice; numbers as with CLIP alone.
_base_ = './maskdistill_vit-base-p16_8xb256-amp-300e_in1k.py'

stages = [
    dict(name='stage1'),
    # the student's last block before the final norm is the target; a new student starts
    dict(name='stage2', teacher='stage1'),
]
