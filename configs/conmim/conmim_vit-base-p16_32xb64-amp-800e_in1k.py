# ConMIM ViT-B/16, 800 epochs (arXiv 2205.09616; epochs of its model zoo): tell each masked patch's own
# target from the others. The official README has ViT-L's command alone (TencentARC/ConMIM): that B takes
# its numbers is our choice; layer scale 0.1 is what the code says for B. Three things are our choice: the
# teacher has no projector, a predictor on the student's side stands for both (official: MLPs with batch
# norm and 256 outputs on both sides); negatives are the other masked patches of the batch (official: all
# patches of the image); and the teacher's momentum grows linearly (official: on a cosine).
_base_ = ['../_base_/datasets/imagenet_mim.py', '../_base_/runtime/pretrain.py',
          '../_base_/runtime/common.py']

model = dict(
    type='mimseg.MaskedImageModeling',
    backbone=dict(
        type='mimseg.ViT', arch='base', img_size=224, patch_size=16, mask_mode='token',
        pos_embed='none', rel_pos_bias='shared', layer_scale=0.1, drop_path_rate=0.0,
        weight_init='beit'),
    masking=dict(type='mimseg.RandomMasking', ratio=0.75, unit=2),  # 37 of 49 squares of 32 px
    teacher=dict(type='mimseg.EMATeacher', momentum=0.996, end_momentum=1.0, final_norm=True),
    normalization=dict(type='mimseg.L2Normalization'),
    head=dict(type='mimseg.MLPHead', hidden=4096, depth=3),
    loss=dict(type='mimseg.InfoNCELoss', temperature=0.1),
)
custom_hooks = [dict(type='mimseg.TeacherUpdateHook')]
train_pipeline = [
    dict(type='mimseg.LoadImageFromFile'),
    # the official code perturbs the teacher's view, with grayscale, blur and solarization as well
    dict(type='mimseg.MIMViews', student=dict(size=224), teacher=dict(size=224, color_jitter=0.4),
         scale=(0.08, 1.0), flip_prob=0.5),
]
train_dataloader = dict(batch_size=64, dataset=dict(pipeline=train_pipeline))
optim_wrapper = dict(
    type='mimseg.AmpOptimWrapper',
    optimizer=dict(type='AdamW', lr=7.5e-4, betas=(0.9, 0.98), weight_decay=0.05),
    clip_grad=dict(max_norm=1.0),
    constructor='mimseg.LayerDecayConstructor',
    paramwise_cfg=dict(layer_decay_rate=1.0),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-4, begin=0, end=10, convert_to_iter_based=True),
    dict(
        type='CosineAnnealingLR', T_max=790, eta_min=1e-5, begin=10, end=800,
        convert_to_iter_based=True),
]
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=800)
auto_scale_lr = dict(base_batch_size=2048)
