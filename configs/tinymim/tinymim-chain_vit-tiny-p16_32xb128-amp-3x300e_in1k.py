# TinyMIM's chain: MAE ViT-L/16 -> B -> S -> T, 300 epochs each (arXiv 2301.01296, section 3.3;
# numbers of the official code, the same for all sizes, with T's 6 heads in pretraining). Heads are
# our choice: the last block has as many as the teacher's last block was trained with, 16; the
# official code mixes counts, and its chain does not run. The schedule is restarted in each stage.
_base_ = './tinymim_vit-base-p16_32xb128-amp-300e_in1k.py'

model = dict(
    backbone=dict(
        arch=dict(  # in numbers, so that the stages can change them
            _delete_=True, embed_dims=768, num_layers=12, num_heads=12, feedforward_channels=3072)))
stages = [
    dict(name='base'),
    dict(name='small', teacher='base', options={
        'model.backbone.arch.embed_dims': 384, 'model.backbone.arch.num_heads': 6,
        'model.backbone.arch.feedforward_channels': 1536,
        'model.normalization.layer': -1}),  # the block that was trained
    dict(name='tiny', teacher='small', options={
        'model.backbone.arch.embed_dims': 192, 'model.backbone.arch.num_heads': 6,
        'model.backbone.arch.feedforward_channels': 768,
        'model.normalization.layer': -1}),
]
