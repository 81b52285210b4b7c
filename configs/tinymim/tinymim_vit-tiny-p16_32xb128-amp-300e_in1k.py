# TinyMIM ViT-T/16 from TinyMIM ViT-S/16, 300 epochs (arXiv 2301.01296, section 3.3; numbers of the
# official code, the same for all sizes, and its 6 heads in pretraining, where fine-tuning has 3).
# The teacher is our own run of the config of ViT-S. Heads are our choice: see that config.
_base_ = './tinymim_vit-base-p16_32xb128-amp-300e_in1k.py'

model = dict(
    backbone=dict(
        arch=dict(
            _delete_=True, embed_dims=192, num_layers=12, num_heads=6, feedforward_channels=768)),
    teacher=dict(
        _delete_=True, type='mimseg.ViTTeacher',
        init='work_dirs/tinymim_vit-small-p16_32xb128-amp-300e_in1k',
        backbone=dict(
            type='mimseg.ViT', arch='small', img_size=224, patch_size=16, last_block_heads=16)),
    normalization=dict(layer=-1),  # the block that was trained
)
