# TinyMIM, arXiv 2301.01296: full images to both, the relations of a middle teacher block against
# those of the student's last one.
model = dict(
    type='mimseg.MaskedImageModeling',
    # the last block has the teacher's head count (section 3.2)
    backbone=dict(
        type='mimseg.ViT', arch='base', img_size=224, patch_size=16, pos_embed='sincos',
        drop_path_rate=0.1, drop_path_schedule='constant', last_block_heads=16),
    masking=None,
    teacher=dict(type='mimseg.TimmTeacher', model='vit_large_patch16_224.mae', weights='hub'),
    normalization=dict(type='mimseg.NoNormalization', layers=()),
    # the 18th of 24 blocks (section 4)
    head=dict(type='mimseg.RelationHead', relations=('qk', 'vv'), teacher_layer=17),
    loss=dict(type='mimseg.RelationKLLoss'),
    positions='all',
    with_cls=True,
)
