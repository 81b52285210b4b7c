# What every run shares, whatever its scope.
custom_imports = dict(imports=['mimseg'])  # so that other toolkits' tools find us
env_cfg = dict(
    cudnn_benchmark=False,
    mp_cfg=dict(mp_start_method='fork', opencv_num_threads=0),
    dist_cfg=dict(backend='nccl'),
)
log_level = 'INFO'
randomness = dict(seed=0, diff_rank_seed=True)  # each rank draws its own drop path and mixup
load_from = None
resume = False
