# dBOT's question (arXiv 2209.03917, Table 1) at small size: does the first teacher matter after a few
# stages? Four first teachers, two stages of distillation each, all fine-tuned for segmentation of
# generated scenes; for each stage the population standard deviation over the teachers. The numbers
# are ours. `--seeds 0` is the shorter variant, with one fine-tuning instead of three.
title = 'teacher study'
seeds = [0, 1, 2]
workers = 2
epochs = 10  # of a stage, and of MAE

prepare = [dict(
    name='scenes',
    argv=['mimseg', 'scenes', '{work_dir}/data', '--train', '200',
          '--val', '200', '--test', '400', '--unlabelled', '4000', '--size', '64', '--seed', '0',
          '--set', 'scale=(0.4,0.7)', 'objects=(1,4)', 'noise=(0.005,0.02)', 'blur=(0.2,0.4)',
          'period=(8,11)', 'clutter=(2,6)', 'twigs=(0,1)'])]

segmentation = 'configs/scenes/upernet_vit-mini-p8_1xb8-600i_scenes-64x64.py'
schedule = {'data_root': '{work_dir}/data/unlabelled', 'train_cfg.max_epochs': epochs,
            'param_scheduler.1.end': epochs}
dbot = dict(config='configs/dbot/dbot_vit-mini-p8_1xb64-2x20e_scenes.py', panels=False)
pretrain = [
    dict(name='MAE', config='configs/mae/mae_vit-mini-p8_1xb64-40e_scenes.py', options=schedule),
    # trained on the labels of the 200 training scenes, as DeiT is on ImageNet's in the paper
    dict(name='supervised', config=segmentation, options={'data_root': '{work_dir}/data'},
         panels=False),
    # a copy of the student's initial weights; its pixels' linear embedding alone; and the two above
    dict(name='dBOT-random', options=schedule, **dbot),
    dict(name='dBOT-linear', options={**schedule, 'model.teacher.depth': 0}, **dbot),
    *[dict(name=f'dBOT-{name}', after=[name], **dbot,
           options={**schedule, 'model.teacher.init': f'{{work_dir}}/pretrain-{name}'})
      for name in ('MAE', 'supervised')],
]

# Stage 0 is the teacher itself, fine-tuned. A network that has nothing of its own but a random patch
# embedding is a random network: both rows start at the same runs.
study = dict(
    row_name='first teacher', column_name='stage', columns=['0', '1', '2'],
    rows={
        name: [start, f'dBOT-{name}-stage1', f'dBOT-{name}-stage2']
        for name, start in [('random', 'random'), ('linear', 'random'), ('MAE', 'MAE'),
                            ('supervised', 'supervised')]})
inits = list(dict.fromkeys(init for row in study['rows'].values() for init in row))
# One point for all: what the demo's validation chose for random weights and for MAE alike.
options = {'data_root': '{work_dir}/data', 'optim_wrapper.optimizer.lr': 2e-3,
           'optim_wrapper.paramwise_cfg.layer_decay_rate': 0.85}
tasks = [dict(
    name='semseg', task='semseg', config=segmentation, options=options, metrics={'mIoU': 'mIoU'},
    select='mIoU')]
# seconds of a step on one of two free cores, the first guess of the remaining time
estimate = {'prepare-scenes': 15, 'pretrain-MAE': 160, 'pretrain-supervised': 95, 'semseg': 95,
            'semseg-test': 15, 'panels': 8,
            **{f'pretrain-dBOT-{name}': 600 for name in study['rows']}}
del epochs, schedule, dbot, segmentation, options
