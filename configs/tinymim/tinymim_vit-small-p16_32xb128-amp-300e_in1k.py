# TinyMIM ViT-S/16 from TinyMIM ViT-B/16, 300 epochs (arXiv 2301.01296, section 3.3; numbers of the
# official code, the same for all sizes). The teacher is our own run of the config of ViT-B. Heads are
# our choice: the last block has as many as the teacher's last block was trained with, 16; the
# official code mixes counts, and its chain does not run.
_base_ = './tinymim_vit-base-p16_32xb128-amp-300e_in1k.py'

model = dict(
    backbone=dict(arch='small'),
    teacher=dict(
        _delete_=True, type='mimseg.ViTTeacher',
        init='work_dirs/tinymim_vit-base-p16_32xb128-amp-300e_in1k',
        backbone=dict(
            type='mimseg.ViT', arch='base', img_size=224, patch_size=16, last_block_heads=16)),
    normalization=dict(layer=-1),  # the block that was trained
)
