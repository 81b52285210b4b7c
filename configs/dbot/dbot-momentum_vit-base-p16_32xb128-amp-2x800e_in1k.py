# dBOT ViT-B/16 with momentum within a stage, two stages of 800 epochs: the ablation that arXiv
# 2209.03917 names. Its momentum is not known; 0.9998 is our choice.
_base_ = './dbot_vit-base-p16_32xb128-amp-2x800e_in1k.py'

stages = [
    dict(name='stage1'),
    # the teacher starts as stage 1's student and follows the new one
    dict(name='stage2', teacher='stage1', optimizer='stage1',
         teacher_options=dict(type='mimseg.EMATeacher', momentum=0.9998),
         options=dict(custom_hooks=[dict(type='mimseg.TeacherUpdateHook')])),
]
