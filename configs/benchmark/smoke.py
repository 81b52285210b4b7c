# The demo's way at a size that takes a minute or two: it shows that every step runs, and no more.
_base_ = ['./demo.py']

title = 'smoke'
prepare = [dict(
    name='scenes',
    argv=['mimseg', 'scenes', '{work_dir}/data', '--train', '16', '--val', '8',
          '--test', '8', '--unlabelled', '128', '--size', '64', '--seed', '0'])]
pretrain = [dict(
    name='MAE', config='configs/mae/mae_vit-mini-p8_1xb64-40e_scenes.py',
    options={'data_root': '{work_dir}/data/unlabelled', 'train_cfg.max_epochs': 2,
             'param_scheduler.1.end': 2})]
short = {'data_root': '{work_dir}/data', 'train_cfg.max_iters': 20, 'train_cfg.val_interval': 20,
         'param_scheduler.0.end': 5, 'param_scheduler.1.begin': 5, 'param_scheduler.1.end': 20}
one_point = [dict(lr=1e-3, layer_decay=1.0)]
tasks = [
    dict(
        name='semseg', task='semseg', options=short,
        config='configs/scenes/upernet_vit-mini-p8_1xb8-600i_scenes-64x64.py',
        metrics={'mIoU': 'mIoU'}, select='mIoU', grid=one_point, grid_keys={{_base_.grid_keys}}),
    dict(
        name='detection', task='detection', options=short,
        config='configs/scenes/mask-rcnn_vit-mini-p8_1xb8-600i_scenes-64x64.py',
        metrics={'AP': 'coco/bbox_mAP', 'mask_AP': 'coco/segm_mAP'}, select='mask_AP', scale=100,
        grid=one_point, grid_keys={{_base_.grid_keys}}),
]
