# The demo's steps at a size that takes a minute or two: it shows that each of them runs, and no more.
_base_ = ['./demo.py']

title = 'smoke'
prepare = [dict(
    name='scenes',
    argv=['mimseg', 'scenes', '{work_dir}/data', '--train', '16', '--val', '8',
          '--test', '8', '--unlabelled', '128', '--size', '64', '--seed', '0'])]
pretrain = [dict(
    name='MAE', config='configs/mae/mae_vit-mini-p8_1xb64-40e_scenes.py',
    options={'data_root': '{work_dir}/data/unlabelled', 'train_cfg.max_epochs': 2,
             'param_scheduler.1.end': 2}, held_out='{work_dir}/data/images/test')]
options = {'train_cfg.max_iters': 20, 'train_cfg.val_interval': 20, 'param_scheduler.0.end': 5,
           'param_scheduler.1.begin': 5, 'param_scheduler.1.end': 20}
estimate = {'prepare-scenes': 2, 'pretrain-MAE': 8, 'semseg': 12, 'semseg-test': 8,
            'detection': 16, 'detection-test': 8}
next = ['{mimseg} benchmark demo']
