# MaskDistill ViT-L/16 fine-tuned, 50 epochs. Its own recipe (arXiv 2210.10615) is not known: these are
# the numbers of BEiT v2 (arXiv 2208.06366; microsoft/unilm,
# beit2/get_started_for_image_classification.md) after 300 epochs of pretraining, and they serve BEiT v2
# too. After 1600 epochs its learning rate is 2e-4.
_base_ = './maskdistill_vit-base-p16_8xb128-amp-100e_in1k.py'

model = dict(
    backbone=dict(arch='large', drop_path_rate=0.2),
    head=dict(in_channels=1024),
)
train_dataloader = dict(batch_size=64)
optim_wrapper = dict(paramwise_cfg=dict(layer_decay_rate=0.8))
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-4, begin=0, end=5, convert_to_iter_based=True),
    dict(
        type='CosineAnnealingLR', T_max=45, eta_min_ratio=1e-6 / 5e-4, begin=5, end=50,
        convert_to_iter_based=True),
]
train_cfg = dict(max_epochs=50)
