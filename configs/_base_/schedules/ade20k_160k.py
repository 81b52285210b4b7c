# ADE20K in 160k iterations of 16 images: what the segmentation codes of BEiT, BEiT v2, dBOT and
# TinyMIM and mmseg's MAE and BEiT configs share. AdamW with layer decay, no clipping. Ours: float32
# (dBOT's and TinyMIM's code takes float16; --amp gives bfloat16), and no weight decay on position
# embeddings and CLS, which their code means to spare and does not
# (paramwise_cfg.decay_embeddings=True does as it does).
_base_ = ['../runtime/segmentation.py']
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=1e-4, betas=(0.9, 0.999), weight_decay=0.05),
    constructor='mimseg.LayerDecayConstructor',
)
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-6, by_epoch=False, begin=0, end=1500),
    dict(type='PolyLR', power=1.0, eta_min=0.0, by_epoch=False, begin=1500, end=160000),
]
train_cfg = dict(type='IterBasedTrainLoop', max_iters=160000, val_interval=16000)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
default_hooks = dict(checkpoint=dict(interval=16000))
auto_scale_lr = dict(base_batch_size=16)
