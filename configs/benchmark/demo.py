# The whole way on generated scenes: one pretraining, UperNet and Mask R-CNN from it and from random
# weights, the same grid for both, chosen on the validation split; the test split is read once.
title = 'demo'
seeds = [0]
workers = 2

prepare = [dict(
    name='scenes',
    argv=['mimseg', 'scenes', '{work_dir}/data', '--train', '200',
          '--val', '200', '--test', '400', '--unlabelled', '4000', '--size', '64', '--seed', '0',
          '--set', 'scale=(0.4,0.7)', 'objects=(1,4)', 'noise=(0.005,0.02)', 'blur=(0.2,0.4)',
          'period=(8,11)', 'clutter=(2,6)', 'twigs=(0,1)'])]

pretrain = [dict(
    name='MAE', config='configs/mae/mae_vit-mini-p8_1xb64-40e_scenes.py',
    options={'data_root': '{work_dir}/data/unlabelled'})]

inits = ['random', 'MAE']
grid = [dict(lr=1e-3, layer_decay=1.0), dict(lr=2e-3, layer_decay=0.85)]
grid_keys = dict(
    lr='optim_wrapper.optimizer.lr', layer_decay='optim_wrapper.paramwise_cfg.layer_decay_rate')
tasks = [
    dict(
        name='semseg', task='semseg',
        config='configs/scenes/upernet_vit-mini-p8_1xb8-600i_scenes-64x64.py',
        options={'data_root': '{work_dir}/data'},
        metrics={'mIoU': 'mIoU'}, select='mIoU', grid=grid, grid_keys=grid_keys),
    dict(
        name='detection', task='detection',
        config='configs/scenes/mask-rcnn_vit-mini-p8_1xb8-600i_scenes-64x64.py',
        options={'data_root': '{work_dir}/data'},
        metrics={'AP': 'coco/bbox_mAP', 'mask_AP': 'coco/segm_mAP'}, select='mask_AP', scale=100,
        grid=grid, grid_keys=grid_keys),
]
