# Masked distillation from several teachers at once: a method of ours. One objective and one MLP a
# teacher.
target = dict(
    # arXiv 2410.01680: all targets get the same variance, so all weights are 1
    normalization=dict(type='mimseg.PHISNormalization', warmup_steps=100),
    head=dict(type='mimseg.MLPHead', depth=2),
    loss=dict(type='mimseg.SmoothL1Loss', beta=1.0))
model = dict(
    type='mimseg.MaskedImageModeling',
    backbone=dict(
        type='mimseg.ViT', arch='base', img_size=224, patch_size=16, mask_mode='token',
        pos_embed='none', rel_pos_bias='shared', layer_scale=0.1, weight_init='beit'),
    masking=dict(type='mimseg.BlockMasking', ratio=0.4, min_patches=16),
    teachers=dict(
        clip=dict(
            type='mimseg.OpenCLIPTeacher', model='ViT-B-16-quickgelu', weights='hub:openai',
            output='post'),
        dino=dict(
            type='mimseg.TimmTeacher', model='vit_base_patch16_224.dino', weights='hub',
            final_norm=True),
        # a /14 network: 196 px for a 14x14 grid
        dinov2=dict(
            type='mimseg.TimmTeacher', model='vit_base_patch14_dinov2.lvd142m', weights='hub',
            final_norm=True, input_size=196)),
    objectives=[
        dict(name='clip', teacher='clip', **target),
        dict(name='dino', teacher='dino', **target),
        dict(name='dinov2', teacher='dinov2', **target),
    ],
)
