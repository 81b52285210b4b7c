# The full demo in about five minutes on two CPU cores: fewer images and steps, one point of the grid
# (the one that validation chooses in the full demo for both initializations), one seed.
_base_ = ['./demo-full.py']

title = 'demo'
seeds = [0]

prepare = [dict(
    name='scenes',
    argv=['mimseg', 'scenes', '{work_dir}/data', '--train', '200',
          '--val', '50', '--test', '200', '--unlabelled', '2000', '--size', '64', '--seed', '0',
          '--set', 'scale=(0.4,0.7)', 'objects=(1,4)', 'noise=(0.005,0.02)', 'blur=(0.2,0.4)',
          'period=(8,11)', 'clutter=(2,6)', 'twigs=(0,1)'])]
pretrain = [dict(
    name='MAE', config='configs/mae/mae_vit-mini-p8_1xb64-40e_scenes.py',
    options={'data_root': '{work_dir}/data/unlabelled', 'train_dataloader.batch_size': 32,
             'train_cfg.max_epochs': 20, 'param_scheduler.1.end': 20},
    held_out='{work_dir}/data/images/test')]
grid = [dict(lr=2e-3, layer_decay=0.85)]
options = {'train_cfg.max_iters': 300, 'train_cfg.val_interval': 300, 'param_scheduler.1.end': 300}
# seconds of a step on one of two free cores, the first guess of the remaining time
estimate = {'prepare-scenes': 8, 'pretrain-MAE': 160, 'semseg': 55, 'semseg-test': 9,
            'detection': 90, 'detection-test': 12}
next = [
    '{mimseg} pretrain IMAGES         # a backbone from a folder of your own images',
    '{mimseg} benchmark demo-full     # the full comparison: two grid points, three seeds',
]
