# ConMIM, arXiv 2205.09616: tell each masked patch's own target from the others. Three things are
# our choice: the teacher has no projector, a predictor on the student's side stands for both
# (official: MLPs with batch norm and 256 outputs on both sides); negatives are the other masked
# patches of the batch (official: all patches of the image); and the teacher's momentum grows
# linearly (official: on a cosine).
model = dict(
    type='mimseg.MaskedImageModeling',
    backbone=dict(
        type='mimseg.ViT', arch='base', img_size=224, patch_size=16, mask_mode='token',
        pos_embed='none', rel_pos_bias='shared', layer_scale=0.1, weight_init='beit'),
    masking=dict(type='mimseg.RandomMasking', ratio=0.75, unit=2),
    teacher=dict(type='mimseg.EMATeacher', momentum=0.996, end_momentum=1.0, final_norm=True),
    normalization=dict(type='mimseg.L2Normalization'),
    head=dict(type='mimseg.MLPHead', hidden=4096, depth=3),
    loss=dict(type='mimseg.InfoNCELoss', temperature=0.1),
)
custom_hooks = [dict(type='mimseg.TeacherUpdateHook')]
