"""Estimates against what is really built, allocated and counted."""

import itertools
import json
import multiprocessing
import resource
import time

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

from mimseg import cli
from mimseg.engine import rate
from mimseg.engine.dry_step import MATMULS, PARTS, STEP, dry_step, vit_flops
from mimseg.engine.estimate import estimate
from mimseg.engine.estimate_report import report
from mimseg.engine.prepare import merge_options
from mimseg.engine.stages import build_on_meta
from mimseg.engine.synthetic import noise_batch
from mimseg.engine.unused import freeze_unused
from mimseg.errors import UserError
from mimseg.recipes.configs import config
from mimseg.students.vit import ViT

MAE = "mae/mae_vit-mini-p8_1xb64-40e_scenes"
UPERNET = "scenes/upernet_vit-mini-p8_1xb8-600i_scenes-64x64"
MASK_RCNN = "scenes/mask-rcnn_vit-mini-p8_1xb8-600i_scenes-64x64"
IN1K = "mae/mae_vit-base-p16_8xb512-amp-300e_in1k"
DBOT = "dbot/dbot_vit-mini-p8_1xb64-2x20e_scenes"


def settings(name, batch=4, **options):
    cfg = config(name)
    merge_options(cfg, {"train_dataloader.batch_size": batch, **options})
    return cfg


def one(cfg, **options):
    (result,) = estimate(cfg, **options)
    return result


def built(cfg):
    """The real model and its optimizer, as the trial builds them, and a batch without end."""
    model, wrapper = rate._build(cfg, "cpu")
    return model, wrapper, itertools.cycle([noise_batch(cfg, cfg.train_dataloader.batch_size)])


@pytest.mark.parametrize("name", [MAE, UPERNET, MASK_RCNN])
def test_parameters_and_memory_are_those_of_a_real_run(name):
    cfg = settings(name, **{"model.backbone.drop_path_rate": 0.1})
    result = one(cfg)
    model, wrapper, batches = built(cfg)
    parameters = list(model.parameters())
    assert result.parameters["student"] == sum(p.numel() for p in model.backbone.parameters())
    both = result.parameters["student"] + result.parameters["head"]
    assert both == sum(p.numel() for p in parameters)
    trained = sum(p.numel() for p in parameters if p.requires_grad)
    assert 0 < result.parameters["trained"] == trained
    rate._step(model, wrapper, batches, "cpu")
    states = [v for state in wrapper.optimizer.state.values() for v in state.values()]
    state = sum(v.nbytes for v in states if isinstance(v, torch.Tensor))
    assert result.memory["optimizer"] == state > 8 * trained
    assert result.memory["gradients"] == 4 * trained
    tensors = (*parameters, *model.buffers())
    assert result.memory["weights"] == sum(t.nbytes for t in tensors)
    whole = sum(t.nbytes for t in model.state_dict().values()) + state
    assert result.checkpoint == whole


def test_a_frozen_teacher_is_counted_apart():
    cfg = settings("maskdistill/maskdistill_vit-mini-p8_1xb64-10e_scenes")
    result = one(cfg)
    model, *_ = built(cfg)
    teacher = list(model.bank["teacher"].parameters())
    count = sum(p.numel() for p in teacher)
    assert 0 < count == result.parameters["teacher"] <= result.parameters["frozen"]
    buffers = sum(b.nbytes for b in model.bank["teacher"].buffers())
    assert result.memory["teacher"] == 4 * count + buffers
    assert 0 < result.cost.teacher_flops < result.cost.flops


@pytest.mark.parametrize("name", [MAE, UPERNET])
def test_flops_are_torchs_count_of_a_real_step(name):
    cfg = settings(name)
    model, wrapper, batches = built(cfg)
    counter = FlopCounterMode(display=False)
    # torch's counter does not know the fused kernel of CPUs
    with counter, sdpa_kernel(SDPBackend.MATH):
        rate._step(model, wrapper, batches, "cpu")
    result = one(cfg)
    assert result.cost.method == STEP
    assert result.cost.flops == counter.get_total_flops() > 0


def test_flops_are_a_vits_matrix_products():
    vit = ViT("mini", img_size=64, patch_size=8, window_size=3, with_cls_token=False)
    plain = ViT("mini", img_size=64, patch_size=8)
    for net, tokens in ((vit, None), (plain, None), (plain, 16)):
        counter = FlopCounterMode(display=False)
        mask = None
        if tokens:
            mask = (torch.arange(64) >= tokens)[None]
        with counter, sdpa_kernel(SDPBackend.MATH), torch.no_grad():
            net.encode(torch.zeros(1, 3, 64, 64), mask)
        assert vit_flops(net, (64, 64), tokens) == counter.get_total_flops()


@pytest.mark.parametrize("half", [None, torch.bfloat16])
@pytest.mark.parametrize("name", [MAE, UPERNET])
def test_memory_of_a_step_is_what_torch_allocates(name, half):
    wrapper = "OptimWrapper" if half is None else "mimseg.AmpOptimWrapper"
    cfg = settings(name, 16, **{"optim_wrapper.type": wrapper})
    model = build_on_meta(cfg)
    freeze_unused(model)
    expected = dry_step(model, cfg, 16, half).peak
    model, wrapper, batches = built(settings(name, 16))
    rate._step(model, wrapper, batches, "cpu")
    wrapper.optimizer.zero_grad(set_to_none=False)  # gradients are there, as the estimate has it
    wrapper.zero_grad = lambda **_: None
    inputs = model.data_preprocessor(next(batches), True)
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as trace:
        with torch.autocast("cpu", half or torch.bfloat16, enabled=half is not None):
            losses = model(**inputs, mode="loss")
        model.parse_losses(losses)[0].backward()
    events = [e for e in trace.profiler.kineto_results.events() if e.name() == "[memory]"]
    sizes = [e.nbytes() for e in sorted(events, key=lambda e: e.start_ns())]
    peak = max(itertools.accumulate(sizes))
    assert expected == pytest.approx(peak, rel=0.05)


@pytest.mark.parametrize("half", [None, torch.bfloat16])
def test_blocks_that_are_computed_again(half):
    peaks, flops = [], []
    for again in (False, True):
        cfg = settings(UPERNET, 16, **{"model.backbone.activation_checkpointing": again})
        cost = dry_step(build_on_meta(cfg), cfg, 16, half)
        assert cost.method == STEP
        peaks.append(cost.peak)
        flops.append(cost.flops)
    assert peaks[1] < 0.8 * peaks[0] and flops[1] > flops[0]


def test_a_giant_student_takes_seconds_and_no_memory():
    estimate(settings(MAE))  # what is imported counts for nothing
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.monotonic()
    options = {"model.backbone.arch": "giant", "model.backbone.patch_size": 14}
    result = one(settings(IN1K, 64, **options), processes=64, fsdp=True, gpu="h100")
    assert time.monotonic() - start < 60
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown << 10 < 1 << 30
    assert result.parameters["student"] / 1e9 == pytest.approx(1.01, abs=0.01)
    shard = 4 * result.parameters["trained"] / 64
    assert result.memory["gradients"] == pytest.approx(shard, abs=1)
    assert result.memory["optimizer"] == pytest.approx(2 * shard, rel=1e-4)
    assert result.memory["gathered"] > 2 * result.memory["weights"]
    assert result.seconds == pytest.approx(
        1_281_167 // 64 // 64 * 300 * result.cost.flops / (0.3 * 989e12)
    )


@pytest.mark.parametrize(("arch", "billions"), [("giant", 1.01), ("gigantic", 1.84)])
def test_students_above_a_billion(arch, billions):
    with torch.device("meta"):
        vit = ViT(arch, patch_size=14)
    count = sum(p.numel() for p in vit.parameters())
    assert count / 1e9 == pytest.approx(billions, abs=0.01)


def test_a_detector_is_counted_by_its_parts():
    result = one(settings("coco/mask-rcnn_vit-base_8xb2-1x_coco", 2), processes=8)
    assert result.cost.method == PARTS and result.views == {"student": (672, 1092)}
    assert (result.images, result.steps) == (117_266, 12 * 7330)


def test_a_step_that_needs_values_falls_back_on_matrix_products(monkeypatch):
    monkeypatch.setattr(
        "mimseg.algorithms.masked_image_modeling.MaskedImageModeling.loss",
        lambda self, views: {"loss": float(views["student"].sum())},
    )
    result = one(settings(MAE))
    assert result.cost.method == MATMULS and result.total_memory is None
    vit = build_on_meta(settings(MAE)).backbone
    assert result.cost.flops == 3 * 4 * vit_flops(vit, (64, 64))
    assert "not known in all" in report([result], MAE)
    monkeypatch.setattr("mimseg.engine.dry_step.ViT", type("Other", (), {}))
    with pytest.raises(UserError, match="runs on meta tensors"):
        estimate(settings(MAE))


def test_steps_and_disk():
    small = {"model.backbone.arch": "mini"}
    result = one(settings(IN1K, 512, **small), processes=8)
    assert (result.images, result.steps, result.epochs) == (1_281_167, 93_600, 300)
    assert result.checkpoints == 2 and result.rate is None and result.seconds is None
    moved = one(settings(IN1K, 512, data_root="/nowhere", **small))
    assert moved.images is None and moved.steps is None and moved.images_from.startswith("/nowhere")
    text = report([moved], IN1K)
    assert "written for 4096 images per step" in text and "--processes 8" in text


def test_images_are_counted_where_they_are(tmp_path):
    from PIL import Image

    for number in range(7):
        Image.new("RGB", (70, 70), (number, 0, 0)).save(tmp_path / f"{number}.png")
    cfg = settings(MAE, 2, data_root=str(tmp_path))
    cfg.train_dataloader.update(num_workers=1, persistent_workers=True)
    before = multiprocessing.active_children()
    result = one(cfg, measure=True, seconds=0.2)
    assert multiprocessing.active_children() == before  # its loader's process is gone
    assert (result.images, result.steps) == (7, 40 * 3) and result.images_from == "counted here"
    assert result.rate.source == "measured here" and "training data" in result.rate.text
    assert result.seconds == pytest.approx(240 / result.rate.images)


def test_every_stage(monkeypatch):
    calls = []
    monkeypatch.setattr(
        "mimseg.engine.estimate.measure_rate",
        lambda *_: calls.append(1) or rate.Rate(10.0, "measured here", "in a test"),
    )
    stages = estimate(settings(DBOT, data_root="data/imagenet/train"), measure=True)
    assert [one.stage for one in stages] == ["stage1", "stage2"] and len(calls) == 1
    text = report(stages, DBOT)
    assert "stage stage2: as stage1" in text and "all stages" in text
    assert stages[0].seconds == pytest.approx(stages[0].steps * 4 / 10)


@pytest.mark.parametrize(
    "name", [UPERNET, MASK_RCNN, "supervised/vit-mini-p8_1xb64-4e_tiny-imagenet"]
)
def test_trial_on_noise(name):
    cfg = settings(name)
    result = rate.measure_rate(cfg, with_data=False, seconds=0.1)
    assert result.images > 0 and "noise" in result.text


def test_a_trial_with_a_teacher_that_follows():
    cfg = settings("data2vec/data2vec_vit-base-p16_16xb128-amp-800e_in1k", 2)
    cfg.model.backbone.arch = dict(
        embed_dims=48, num_layers=12, num_heads=2, feedforward_channels=96
    )
    assert rate.measure_rate(cfg, with_data=False, seconds=0.1).images > 0


def test_what_is_sharded_is_shared_out():
    def parts(**options):
        cfg = settings(DBOT)
        cfg.fsdp = options
        return estimate(cfg, processes=4)[0]

    whole, sharded = parts(teachers="whole"), parts(teachers="sharded", param_dtype="bfloat16")
    assert sharded.memory["teacher"] < 0.4 * whole.memory["teacher"]
    assert sharded.memory["gathered"] < whole.memory["gathered"] + whole.memory["teacher"] // 6
    assert sharded.memory["weights"] == whole.memory["weights"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere/nothing"], "CONFIG = 'nowhere/nothing'"),
        ([MAE, "--gpu", "h1000"], "--gpu = 'h1000'"),
        ([MAE, "--gpu", "h100", "--measure"], "one of --gpu and --measure"),
        ([MAE, "--fsdp"], "--processes of 2 or more"),
        ([MAE, "--processes", "0"], "--processes = 0"),
        (["benchmark/demo"], "a config that trains"),
        ([MAE, "--cfg-options", "model.backbone.arch=hugge"], "backbone.arch = 'hugge'"),
        (
            [MAE, "--fsdp", "--processes", "2"]
            + ["--cfg-options", "model.backbone.rel_pos_bias=per_block"],
            "model.backbone.rel_pos_bias = 'per_block'",
        ),
        ([MAE, "--processes", "2", "--cfg-options", "fsdp=half"], "fsdp = 'half'"),
    ],
)
def test_wrong_input_is_one_line(arguments, message, capsys):
    assert cli.main(["estimate", *arguments]) == 2
    out, err = capsys.readouterr()
    assert not out and message in err and len(err.splitlines()) == 1


def test_command(capsys):
    arguments = ["--cfg-options", "train_dataloader.batch_size=8"]
    assert cli.main(["estimate", MAE, "--gpu", "a100", *arguments]) == 0
    text = capsys.readouterr().out
    for word in ("by count", "estimated", "assumed", "FLOP", "checkpoints of", "float32"):
        assert word in text, word
    assert len(text.splitlines()) < 30 and max(map(len, text.splitlines())) <= 100
    assert cli.main(["estimate", MAE, "--json", *arguments]) == 0
    (stage,) = json.loads(capsys.readouterr().out)["stages"]
    assert stage["batch"] == 8 and stage["total_memory"] == sum(stage["memory"].values())
