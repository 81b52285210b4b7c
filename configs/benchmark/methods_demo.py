# The four methods at demo size on generated scenes, from data to segmentation: it shows that each runs
# end to end and continues after a kill. Their teachers are random or trained here, and the training is
# short, so the numbers do not rank the methods. Img2Vec's teacher is a random ResNet-18, MaskDistill's
# a random CLIP tower, the first of TinyMIM's chain an MAE from here, dBOT's a copy of its own student.
title = 'methods demo'
seeds = [0]
workers = 2

prepare = [dict(
    name='scenes',
    argv=['mimseg', 'scenes', '{work_dir}/data', '--train', '200',
          '--val', '100', '--test', '200', '--unlabelled', '2000', '--size', '64', '--seed', '0',
          '--set', 'scale=(0.4,0.7)', 'objects=(1,4)', 'noise=(0.005,0.02)', 'blur=(0.2,0.4)',
          'period=(8,11)', 'clutter=(2,6)', 'twigs=(0,1)'])]

unlabelled = {'data_root': '{work_dir}/data/unlabelled'}
pretrain = [
    dict(name='MAE', config='configs/mae/mae_vit-256-p8_1xb64-6e_scenes.py', options=unlabelled),
    dict(name='TinyMIM', config='configs/tinymim/tinymim_vit-192-160-mini-p8_1xb64-3x3e_scenes.py',
         after=['MAE'], options={**unlabelled, 'model.teacher.init': '{work_dir}/pretrain-MAE'}),
    dict(name='dBOT', config='configs/dbot/dbot_vit-mini-p8_1xb64-2x20e_scenes.py',
         options={**unlabelled, 'train_cfg.max_epochs': 8, 'param_scheduler.1.end': 8}),
    dict(name='MaskDistill',
         config='configs/maskdistill/maskdistill_vit-mini-p8_1xb64-10e_scenes.py',
         options=unlabelled,
         finetune={'model.backbone.layer_scale': 0.1, 'model.backbone.pos_embed': 'none',
                   'model.backbone.rel_pos_bias': 'shared'}),
    dict(name='Img2Vec', config='configs/img2vec/img2vec_vit-mini-p8_1xb64-10e_scenes.py',
         options=unlabelled),
]

inits = ['random', 'MaskDistill', 'dBOT', 'Img2Vec', 'TinyMIM']
options = {'data_root': '{work_dir}/data', 'optim_wrapper.optimizer.lr': 2e-3,
           'optim_wrapper.paramwise_cfg.layer_decay_rate': 0.85}
tasks = [dict(
    name='semseg', task='semseg', options=options, metrics={'mIoU': 'mIoU'}, select='mIoU',
    config='configs/scenes/upernet_vit-mini-p8_1xb8-600i_scenes-64x64.py')]
# seconds of a step on one of two free cores, the first guess of the remaining time
estimate = {'prepare-scenes': 8, 'pretrain-MAE': 120, 'pretrain-TinyMIM': 500, 'pretrain-dBOT': 240,
            'pretrain-MaskDistill': 250, 'pretrain-Img2Vec': 130, 'semseg': 95, 'semseg-test': 12,
            'panels': 8}
del unlabelled, options
