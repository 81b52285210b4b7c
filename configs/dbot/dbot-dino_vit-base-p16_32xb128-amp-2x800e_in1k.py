# dBOT ViT-B/16 with DINO as the first teacher, two stages of 800 epochs (arXiv 2209.03917, its
# study of teachers). Numbers of the official code, PRETRAIN.md; that study's own are not known.
_base_ = './dbot_vit-base-p16_32xb128-amp-2x800e_in1k.py'

# others: 'deit_base_patch16_224.fb_in1k' (DeiT), 'vit_base_patch16_224.mae' (MAE)
model = dict(
    teacher=dict(
        _delete_=True, type='mimseg.TimmTeacher', model='vit_base_patch16_224.dino', weights='hub'))
