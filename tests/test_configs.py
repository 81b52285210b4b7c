"""Every config loads, builds at full size without memory, and takes a step at a small one."""

import re
import subprocess
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import MODELS as ROOT
from mmengine.registry import PARAM_SCHEDULERS, DefaultScope

from mimseg.engine.prepare import check_types
from mimseg.engine.stages import stage_configs
from mimseg.engine.unused import freeze_unused
from mimseg.rehearse.config import rehearse

from shipped import shipped_configs  # isort: skip

ROOT_DIR = Path(__file__).parents[1]
FILES = [
    path.relative_to(ROOT_DIR)
    for path in shipped_configs()
    if not {"_base_", "benchmark", "analysis"} & set(path.parts)
]
# published counts of the encoders without a head, by width and depth: T, S, B, L, H; mini is ours
MILLIONS = {
    (128, 6): 1.2,
    (192, 12): 5.5,
    (384, 12): 22,
    (768, 12): 86,
    (1024, 24): 304,
    (1280, 32): 632,
}
MIM = "mimseg.MaskedImageModeling"
CLASSIFIER = "mmpretrain.ImageClassifier"


def test_a_config_put_beside_ours_is_not_swept(tmp_path):
    (tmp_path / "configs").mkdir()
    for name in ("ours.py", "of_a_user.py"):
        (tmp_path / "configs" / name).touch()
    for command in ("init -q", "add configs/ours.py"):
        subprocess.run(["git", *command.split()], cwd=tmp_path, check=True)
    assert shipped_configs(root=tmp_path) == [tmp_path / "configs/ours.py"]
    assert len(FILES) > 90


def load(path):
    cfg = Config.fromfile(ROOT_DIR / path)
    DefaultScope.get_instance(f"test {path}", scope_name=cfg.default_scope)
    return cfg


def staged(cfg):
    """The config of each stage by name, or the one config."""
    cfg.work_dir = cfg.get("work_dir", "work_dirs/test")
    return stage_configs(cfg) if cfg.get("stages") else {"": cfg}


def build(cfg):
    with ROOT.switch_scope_and_registry(cfg.default_scope) as registry:
        return registry.build(cfg.model)


def view_sizes(cfg):
    """Sides of the student's and the teacher's view."""
    pipeline = cfg.train_dataloader.dataset.pipeline
    (views,) = (step for step in pipeline if step.type == "mimseg.MIMViews")
    student = views.student.size
    return student, (views.get("teacher") or views.student).size


@pytest.mark.parametrize("path", FILES, ids=str)
def test_full_size(path, monkeypatch):
    # torch has no autocast for the meta device, and nothing is computed there
    monkeypatch.setattr(torch, "autocast", lambda *args, **kwargs: nullcontext())
    assert len((ROOT_DIR / path).read_text().splitlines()) < 80
    for cfg in staged(load(path)).values():
        check_types(cfg.to_dict())
        with torch.device("meta"):
            model = build(cfg)
        named = model.backbone.named_parameters()  # positions depend on the image size
        millions = sum(p.numel() for name, p in named if name != "pos_embed") / 1e6
        size = (model.backbone.embed_dims, model.backbone.num_layers)
        if size in MILLIONS or path.stem.endswith("in1k"):  # demos have sizes of their own
            assert millions == pytest.approx(MILLIONS[size], rel=0.03)
        if cfg.model.type == MIM:
            check_grids(cfg, model)
        if cfg.model.type == CLASSIFIER:
            check_classifier(cfg, model)
        if "rpn_head" in cfg.model:
            check_strides(model)


def check_strides(model):
    """The levels of a detector have the strides that its anchors and RoI heads count on."""
    with torch.no_grad():
        levels = model.eval().neck(model.backbone(torch.empty(1, 3, 512, 1024, device="meta")))
    strides = [(512 / level.shape[2], 1024 / level.shape[3]) for level in levels]
    assert strides == model.rpn_head.prior_generator.strides
    extractors = model.roi_head.bbox_roi_extractor
    for extractor in extractors if isinstance(extractors, torch.nn.ModuleList) else [extractors]:
        assert strides[: extractor.num_inputs] == [(s, s) for s in extractor.featmap_strides]


def check_classifier(cfg, model):
    """Crops are of the backbone's size, and the parts fit one another at full size."""
    crops = [step.scale for step in pipeline_of(cfg, "train") if "ResizedCrop" in step.type]
    crops += [step.crop_size for step in pipeline_of(cfg, "test") if "CenterCrop" in step.type]
    assert set(crops) == {cfg.model.backbone.img_size}
    model.eval()  # mmpretrain's modules do not all return themselves
    scores = model(torch.empty(1, 3, crops[0], crops[0], device="meta"))
    assert scores.shape == (1, cfg.model.head.num_classes)
    known = cfg.model.data_preprocessor.get("num_classes")  # a probe has no need to know
    assert known in (None, cfg.model.head.num_classes)


def pipeline_of(cfg, split):
    return cfg[f"{split}_dataloader"].dataset.pipeline


def check_grids(cfg, model):
    """The views fit student and teachers, whose tokens stand on the same grid at full size."""
    student, teacher_side = view_sizes(cfg)
    images = torch.empty(1, 3, student, student, device="meta")
    grid = model.backbone.grid(images)
    assert model.backbone.base_grid == grid
    model.backbone.eval()
    for name, teacher in model.bank.teachers.items():
        objectives = [o for o in model.objectives.values() if o.teacher == name]
        assert objectives
        view = torch.empty(1, 3, teacher_side, teacher_side, device="meta")
        needs = [objective.teacher_needs for objective in objectives]
        output = teacher.eval()(view, needs[0])
        assert output.grid == grid
        if output.tokens:
            layer = next(iter(output.tokens))
            assert output.sequence(layer).shape == (1, 1 + grid[0] * grid[1], teacher.out_channels)
    if model.masking is not None:
        assert 0 < model.masking.num_masked(grid) < grid[0] * grid[1]


FULL = [path for path in FILES if re.search(r"_in1k(-\d+px)?$", path.stem)]


@pytest.mark.parametrize("path", FULL, ids=lambda path: path.stem)
def test_name_says_batch_and_epochs(path):
    """{method}_{backbone}_{gpus}xb{batch}[-amp]-[{stages}x]{epochs}e_{data}[-{side}px]."""
    pattern = r"[\w-]+_vit-[\w-]+_(\d+)xb(\d+)(-amp)?-(?:(\d+)x)?(\d+)e_in1k(?:-\d+px)?"
    gpus, size, amp, stages, epochs = re.fullmatch(pattern, path.stem).groups()
    cfg = load(path)
    assert cfg.train_dataloader.batch_size == int(size)
    assert cfg.auto_scale_lr.base_batch_size == int(gpus) * int(size)
    assert cfg.train_cfg.max_epochs == int(epochs)
    assert len(cfg.get("stages", [0])) == int(stages or 1)
    assert ("Amp" in cfg.optim_wrapper.type) == bool(amp)


COCO = [path for path in FILES if path.stem.endswith("_coco")]


@pytest.mark.parametrize("path", COCO, ids=lambda path: path.stem)
def test_name_says_batch_and_epochs_of_detection(path):
    """{detector}_{backbone}_{gpus}xb{batch}-{epochs}e_coco; 1x is 12 epochs."""
    pattern = r"[\w-]+_vit-[\w-]+_(\d+)xb(\d+)-(\d+)(e|x)_coco"
    gpus, size, epochs, unit = re.fullmatch(pattern, path.stem).groups()
    cfg = load(path)
    batch_size = int(gpus) * int(size)
    assert cfg.train_dataloader.batch_size == int(size)
    assert cfg.auto_scale_lr.base_batch_size == batch_size
    loop, steps = cfg.train_cfg, cfg.param_scheduler[-1]
    end = loop.get("max_epochs") or loop.max_iters
    images = 118000 if steps.get("by_epoch", True) is False else batch_size  # ViTDet's count
    assert end * batch_size / images == (int(epochs) if unit == "e" else 12 * int(epochs))
    assert steps.get("by_epoch", True) == (loop.type == "EpochBasedTrainLoop")
    assert 0.6 * end < steps.milestones[0] < steps.milestones[1] < end == steps.end


@pytest.mark.parametrize("path", FULL, ids=lambda path: path.stem)
def test_learning_rate(path):
    """It grows from next to nothing to its peak, and the last epoch ends low."""
    cfg = load(path)
    peak = cfg.optim_wrapper.optimizer.lr
    weights = [torch.nn.Parameter(torch.zeros(1)) for _ in range(2)]
    groups = [dict(params=[weights[0]]), dict(params=[weights[1]], lr=1e-3 * peak)]
    optimizer = torch.optim.SGD(groups, lr=peak)
    schedulers = [
        PARAM_SCHEDULERS.build(dict(options, optimizer=optimizer, epoch_length=2))
        for options in cfg.param_scheduler
    ]
    rates, lower = [], []  # of the head, and of a layer far below
    for _ in range(2 * cfg.train_cfg.max_epochs):
        for trace, group in zip((rates, lower), optimizer.param_groups, strict=True):
            trace.append(group["lr"])
        optimizer.step()
        for scheduler in schedulers:
            scheduler.step()
    warm = 2 * cfg.param_scheduler[0].end
    assert rates[0] < 0.01 * peak
    assert max(rates) == pytest.approx(peak) == rates[warm]
    assert rates[:warm] == sorted(rates[:warm])
    assert rates[-1] < 0.11 * peak
    if cfg.optim_wrapper.paramwise_cfg.get("layer_decay_rate", 1) < 1:
        assert lower == pytest.approx([1e-3 * rate for rate in rates])


MASKED = {  # counts that papers and official codes name, of 196 patches or 256
    "maskdistill/maskdistill_vit-base-p16_8xb256-amp-300e_in1k.py": 78,
    "maskdistill/maskdistill-clip-l14_vit-huge-p14_64xb32-amp-300e_in1k.py": 102,
    "dbot/dbot_vit-base-p16_32xb128-amp-2x800e_in1k.py": 147,
    "dbot/dbot_vit-huge-p14_32xb128-amp-2x800e_in1k.py": 192,
    "dbot/dbot-clip_vit-large-p16_32xb128-amp-1600e_in1k.py": 78,
    "beitv2/beitv2_vit-base-p16_8xb256-amp-300e_in1k.py": 75,
    "maskfeat/maskfeat_vit-base-p16_8xb256-amp-300e_in1k.py": 78,
    "simmim/simmim_vit-base-p16_16xb128-amp-800e_in1k.py": 120,
    "data2vec/data2vec_vit-base-p16_16xb128-amp-800e_in1k.py": 120,
    "conmim/conmim_vit-base-p16_32xb64-amp-800e_in1k.py": 148,
    "milan/milan_vit-base-p16_16xb256-amp-400e_in1k.py": 147,
}


@pytest.mark.parametrize("path", MASKED)
def test_masked_count(path):
    cfg = load(f"configs/{path}")
    side = cfg.model.backbone.img_size // cfg.model.backbone.patch_size
    assert ROOT.build(cfg.model.masking).num_masked((side, side)) == MASKED[path]


def test_chain_head_counts():
    """TinyMIM's chain: a student's last block has as many heads as the block that teaches it."""
    cfg = load("configs/tinymim/tinymim-chain_vit-tiny-p16_32xb128-amp-3x300e_in1k.py")
    widths, heads = [], []
    for stage in staged(cfg).values():
        with torch.device("meta"):
            model = build(stage)
            (objective,) = model.objectives.values()
            needs = objective.teacher_needs
            output = model.bank["teacher"](torch.empty(1, 3, 224, 224), needs)
        ((query, _, _),) = output.qkv.values()
        assert query.shape[1] == model.backbone.layers[-1].attn.num_heads
        widths.append(model.backbone.embed_dims)
        heads.append((model.backbone.layers[0].attn.num_heads, query.shape[1]))
    assert widths == [768, 384, 192]
    assert heads == [(12, 16), (6, 16), (6, 16)]


def images(*size):
    return torch.randint(256, size, dtype=torch.uint8)


def batch(cfg):
    """Random images, and labels of the task."""
    if cfg.model.type == MIM:
        student, teacher = view_sizes(cfg)
        views = dict(student=images(6, 3, student, student))  # drop path spares some of six
        if teacher != student:
            views["teacher"] = images(6, 3, teacher, teacher)
        return dict(inputs=views if len(views) > 1 else views["student"])
    if cfg.default_scope == "mmpretrain":
        from mmpretrain.structures import DataSample

        # drop path spares some of six
        samples = [DataSample().set_gt_label(label) for label in range(6)]
        return dict(inputs=[images(3, 64, 64) for _ in samples], data_samples=samples)
    if cfg.default_scope == "mmdet":
        from mmdet.testing import demo_mm_inputs

        return demo_mm_inputs(2, [[3, 64, 64], [3, 64, 64]], num_classes=5, with_mask=True)
    from mmengine.structures import PixelData
    from mmseg.structures import SegDataSample

    samples = []
    for _ in range(2):
        labels = PixelData(data=torch.randint(5, (1, 64, 64)))
        samples.append(SegDataSample(gt_sem_seg=labels, metainfo=dict(img_shape=(64, 64))))
    return dict(inputs=[images(3, 64, 64) for _ in samples], data_samples=samples)


@pytest.mark.parametrize("path", FILES, ids=str)
def test_one_step(path):
    torch.manual_seed(0)
    full = load(path)
    cfg = rehearse(full)
    for number, stage in enumerate(staged(cfg).values()):
        check_short(stage, full)
        if number:  # no earlier stage has run here
            assert stage.model.teacher.init.startswith("work_dirs/")
            stage.model.teacher.init = "random"
        if cfg.default_scope != "mmpretrain":
            make_learnable(stage.model.backbone)
        step(stage)


def check_short(cfg, full):
    """Two steps of two images in this process, one validation if there is one, a whole schedule."""
    loop, train = cfg.train_cfg, cfg.train_dataloader
    assert (loop.get("max_epochs"), loop.val_interval) in ((1, 1), (None, 2))
    assert loop.get("max_iters", 2) == 2 and loop.get("type") == full.train_cfg.get("type")
    assert (train.batch_size, train.dataset.indices) == (2, 4)
    for split in ("train", "val", "test"):
        if loader := cfg.get(f"{split}_dataloader"):
            assert loader.num_workers == 0 and not loader.persistent_workers
            assert loader.dataset.indices <= 4 and loader.batch_size <= 2
            assert loader.dataset.data_root == full[f"{split}_dataloader"].dataset.data_root
    assert len(cfg.param_scheduler) == len(full.param_scheduler)
    for part in cfg.param_scheduler:
        assert not part.by_epoch and 0 <= part.begin < part.end <= 2
    assert cfg.default_hooks.checkpoint.interval in (1, 2)
    assert not cfg.get("auto_scale_lr") and cfg.load_from is None


def make_learnable(backbone):
    """So that a step moves every weight, and a map's side is no multiple of the windows'."""
    backbone.drop_path_rate = 0.0  # it may drop a block for both images of a batch
    if 0 < backbone.get("layer_scale", 0) < 0.1:
        backbone.layer_scale = 0.1  # behind less, AdamW's epsilon outweighs a gradient
    if window := backbone.get("window_size"):
        assert backbone.img_size // backbone.patch_size % window


def step(cfg):
    from mmengine.optim import build_optim_wrapper

    from mimseg.registry import OPTIM_WRAPPER_CONSTRUCTORS

    model = revert_sync_batchnorm(build(cfg))  # as a Runner of one process does
    model.init_weights()
    unused = freeze_unused(model)
    relations = cfg.model.type == MIM and not model.student_needs().tokens  # TinyMIM's
    assert bool(unused) == relations, unused
    assert OPTIM_WRAPPER_CONSTRUCTORS.get(cfg.optim_wrapper.constructor) is not None
    cfg.optim_wrapper.type = "OptimWrapper"  # --amp's own wrapper has a test of its own
    wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    losses = model.train_step(batch(cfg), wrapper)
    assert torch.isfinite(losses["loss"])
    stuck = [
        name
        for name, parameter in model.named_parameters()
        if parameter.requires_grad and torch.equal(parameter, before[name])
    ]
    # a small image leaves the coarsest levels of a pyramid to nobody
    assert not [name for name in stuck if name.startswith(("backbone.", "objectives."))]
