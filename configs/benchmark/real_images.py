# Real photographs: the four methods on unlabelled images of 64 px, then CamVid segmentation and
# instances from them and from random weights, and a short pass over COCO's own layout. dBOT replaces
# CLIP as the teacher of the other three; a supervised backbone of the same size is compared as well.
# --data-root holds tiny_imagenet_subset.tar.gz, camvid.tar and tiny_coco.tar.
title = 'real images'
seeds = [0, 1, 2]
workers = 2

things = ['8:car', '9:pedestrian', '10:bicyclist', '6:sign', '2:pole']
prepare = [
    dict(name='tiny-imagenet',
         argv=['tar', '-xf', '{data_root}/tiny_imagenet_subset.tar.gz', '-C', '{dir}']),
    dict(name='camvid', argv=['tar', '-xf', '{data_root}/camvid.tar', '-C', '{dir}']),
    dict(name='tiny-coco', argv=['tar', '-xf', '{data_root}/tiny_coco.tar', '-C', '{dir}']),
    *[dict(name=f'instances-{split}', needs=['camvid'],
           argv=['mimseg', 'masks2coco',
                 f'{{work_dir}}/prepare-camvid/camvid/images/{split}',
                 f'{{work_dir}}/prepare-camvid/camvid/annotations/{split}',
                 f'{{dir}}/instances_{split}.json', '--things', *things])
      for split in ('train', 'val', 'test')],
]
images = '{work_dir}/prepare-tiny-imagenet/tiny_imagenet_subset'
pretrain = [
    dict(name='dBOT', config='configs/dbot/dbot_vit-mini-p8_1xb64-3e-6e_tiny-imagenet.py',
         needs=['tiny-imagenet'], options={'data_root': f'{images}/train'}),
    *[dict(name=name, config=f'configs/{name.lower()}/{name.lower()}_vit-mini-p8_1xb64-4e_tiny-imagenet.py',
           needs=['tiny-imagenet'], after=['dBOT'], finetune=finetune,
           options={'data_root': f'{images}/train',
                    'model.teacher.init': '{work_dir}/pretrain-dBOT'})
      for name, finetune in (
          ('MaskDistill', {'model.backbone.layer_scale': 0.1, 'model.backbone.pos_embed': 'none',
                           'model.backbone.rel_pos_bias': 'shared'}),
          ('Img2Vec', {}), ('TinyMIM', {}))],
    dict(name='supervised', config='configs/supervised/vit-mini-p8_1xb64-4e_tiny-imagenet.py',
         needs=['tiny-imagenet'], panels=False, options={'data_root': images}),
]

inits = ['random', 'dBOT', 'MaskDistill', 'Img2Vec', 'TinyMIM', 'supervised']
grid_keys = dict(
    lr='optim_wrapper.optimizer.lr', layer_decay='optim_wrapper.paramwise_cfg.layer_decay_rate')
camvid = {'data_root': '{work_dir}/prepare-camvid/camvid'}
instances = {
    **camvid,
    **{f'{split}_dataloader.dataset.ann_file':
       f'{{work_dir}}/prepare-instances-{split}/instances_{split}.json'
       for split in ('train', 'val', 'test')},
    **{f'{split}_evaluator.ann_file':
       f'{{work_dir}}/prepare-instances-{split}/instances_{split}.json'
       for split in ('val', 'test')},
}
tasks = [
    dict(
        name='camvid-semseg', task='semseg', options=camvid, needs=['camvid'],
        config='configs/camvid/upernet_vit-mini-p8_1xb8-300i_camvid-120x160.py',
        metrics={'mIoU': 'mIoU'}, select='mIoU', grid_keys=grid_keys,
        grid=[dict(lr=1e-3, layer_decay=1.0), dict(lr=1.5e-3, layer_decay=0.85)]),
    dict(
        name='camvid-detection', task='detection', options=instances,
        inits=['random', 'dBOT', 'Img2Vec'],  # dBOT, and the best by segmentation
        needs=['camvid', 'instances-train', 'instances-val', 'instances-test'],
        config='configs/camvid/mask-rcnn_vit-mini-p8_1xb8-700i_camvid-128x128.py',
        metrics={'AP': 'coco/bbox_mAP', 'mask_AP': 'coco/segm_mAP'}, select='mask_AP', scale=100,
        grid_keys=grid_keys,
        grid=[dict(lr=1e-3, layer_decay=1.0), dict(lr=1.5e-3, layer_decay=0.85)]),
    dict(
        name='camvid-linear', task='semseg', options=camvid, needs=['camvid'],
        inits=['random', 'dBOT', 'Img2Vec', 'supervised'],  # (TinyMIM does not train the last block)
        config='configs/camvid/linear_vit-mini-p8_1xb8-300i_camvid-120x160.py',
        metrics={'mIoU': 'mIoU'}, select='mIoU', grid_keys=grid_keys,
        grid=[dict(lr=1e-2), dict(lr=3e-2)]),
    dict(
        name='camvid-detection-windows', task='detection', options=instances,
        inits=['random', 'dBOT'],
        needs=['camvid', 'instances-train', 'instances-val', 'instances-test'],
        config='configs/camvid/mask-rcnn_vit-mini-windows-p8_1xb8-700i_camvid-128x128.py',
        metrics={'AP': 'coco/bbox_mAP', 'mask_AP': 'coco/segm_mAP'}, select='mask_AP', scale=100,
        grid_keys=grid_keys,
        grid=[dict(lr=1e-3, layer_decay=1.0), dict(lr=1.5e-3, layer_decay=0.85)]),
]
extra = [dict(
    name='tiny-coco', resume=True,
    argv=['mimseg', 'train', 'configs/coco/mask-rcnn_vit-mini-p8_1xb2-40i_tiny-coco.py',
          '--work-dir', '{dir}', '--cfg-options',
          'data_root={work_dir}/prepare-tiny-coco/tiny_coco'])]
# seconds of a step on one of two free cores, the first guess of the remaining time: of the tasks from
# the records in docs/results, of pretraining from the time of an iteration on generated scenes
estimate = {
    **dict.fromkeys(('prepare-tiny-imagenet', 'prepare-camvid', 'prepare-tiny-coco'), 5),
    **{f'prepare-instances-{split}': 10 for split in ('train', 'val', 'test')},
    'pretrain-dBOT': 1350, 'pretrain-MaskDistill': 620, 'pretrain-Img2Vec': 520,
    'pretrain-TinyMIM': 620, 'pretrain-supervised': 500, 'panels': 10,
    'camvid-semseg': 300, 'camvid-semseg-test': 20, 'camvid-linear': 95, 'camvid-linear-test': 15,
    'camvid-detection': 630, 'camvid-detection-test': 40,
    'camvid-detection-windows': 640, 'camvid-detection-windows-test': 40, 'extra-tiny-coco': 60}
del things, camvid, instances, images, grid_keys
