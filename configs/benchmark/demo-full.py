# From images to detection on generated scenes: one pretraining, UperNet and Mask R-CNN from it and
# from random weights, the same grid for both, chosen on the validation split; the test split is read
# once per seed. `grid`, `grid_keys` and `options` are those of every task that does not say its own.
title = 'full demo'
seeds = [0, 1, 2]
workers = 2

prepare = [dict(
    name='scenes',
    argv=['mimseg', 'scenes', '{work_dir}/data', '--train', '200',
          '--val', '200', '--test', '400', '--unlabelled', '4000', '--size', '64', '--seed', '0',
          '--set', 'scale=(0.4,0.7)', 'objects=(1,4)', 'noise=(0.005,0.02)', 'blur=(0.2,0.4)',
          'period=(8,11)', 'clutter=(2,6)', 'twigs=(0,1)'])]

pretrain = [dict(
    name='MAE', config='configs/mae/mae_vit-mini-p8_1xb64-40e_scenes.py',
    options={'data_root': '{work_dir}/data/unlabelled'}, held_out='{work_dir}/data/images/test')]

inits = ['random', 'MAE']
grid = [dict(lr=1e-3, layer_decay=1.0), dict(lr=2e-3, layer_decay=0.85)]
grid_keys = dict(
    lr='optim_wrapper.optimizer.lr', layer_decay='optim_wrapper.paramwise_cfg.layer_decay_rate')
options = {'data_root': '{work_dir}/data'}
tasks = [
    dict(
        name='semseg', task='semseg',
        config='configs/scenes/upernet_vit-mini-p8_1xb8-600i_scenes-64x64.py',
        metrics={'mIoU': 'mIoU'}, select='mIoU'),
    dict(
        name='detection', task='detection',
        config='configs/scenes/mask-rcnn_vit-mini-p8_1xb8-600i_scenes-64x64.py',
        metrics={'AP': 'coco/bbox_mAP', 'mask_AP': 'coco/segm_mAP'}, select='mask_AP', scale=100),
]
# seconds of a step on one of two free cores, the first guess of the remaining time
estimate = {'prepare-scenes': 15, 'pretrain-MAE': 600, 'semseg': 110, 'semseg-test': 15,
            'detection': 230, 'detection-test': 25, 'panels': 8}
next = ['{mimseg} pretrain IMAGES     # a backbone from a folder of your own images']
