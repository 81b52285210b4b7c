"""A misspelled or impossible setting is one line with its path, whatever type it is of."""

import numpy as np
import pytest
from mmengine.registry import MODELS, DefaultScope
from PIL import Image

from mimseg.engine import loops
from mimseg.engine.build_errors import report_build_errors
from mimseg.engine.prepare import check_config, merge_options
from mimseg.engine.run import train
from mimseg.engine.stages import check_model, stage_configs
from mimseg.errors import UserError
from mimseg.recipes.configs import config

MIM = "mae/mae_vit-mini-p8_1xb64-40e_scenes"
SEGMENTOR = "scenes/upernet_vit-mini-p8_1xb8-600i_scenes-64x64"
DETECTOR = "scenes/mask-rcnn_vit-mini-p8_1xb8-600i_scenes-64x64"


def put(cfg, key, value):
    """Set a dotted key as a config file would: nothing asks whether it is there."""
    *parents, last = key.split(".")
    for part in parents:
        cfg = cfg[int(part)] if part.isdigit() else cfg[part]
    if value is None:
        del cfg[last]
    else:
        cfg[last] = value


def assert_names(error, key):
    """See that an error is about a key, about what is in it, or about the type that it is of."""
    assert error.key.startswith(key) or error.key == key.rpartition(".")[0], error


@pytest.mark.parametrize(
    "name, key, value, message",
    [
        (MIM, "backbone.drop_path_rat", 0.1, "an option of mimseg.ViT. Fix: did you mean drop_pa"),
        (MIM, "bakbone", {}, "an option of mimseg.MaskedImageModeling. Fix: did you mean backbone"),
        (MIM, "head.depht", 2, "mimseg.DecoderHead. Fix: did you mean depth?"),
        (MIM, "teacher.vieww", "student", "mimseg.PixelTeacher. Fix: did you mean view?"),
        (MIM, "masking.raito", 0.5, "mimseg.RandomMasking. Fix: did you mean ratio?"),
        (MIM, "normalization.epss", 1.0, "mimseg.TokenLayerNorm. Fix: did you mean eps?"),
        (MIM, "loss.beta", 1.0, "mimseg.L2Loss. Fix: leave it out"),
        (MIM, "data_preprocessor", dict(to_rbg=True), "Preprocessor. Fix: did you mean to_rgb?"),
        (MIM, "backbone.patch_size", "16", "options that mimseg.ViT takes (TypeError: "),
        (
            MIM,
            "backbone.arch",
            dict(embed_dims=8),
            "options that mimseg.ViT takes (KeyError: 'num_heads', in",
        ),
        (SEGMENTOR, "decode_head.num_clases", 3, "mmseg.UPerHead. Fix: did you mean num_classes?"),
        (SEGMENTOR, "decode_head.type", "mmseg.UPerHed", "Fix: did you mean mmseg.UPerHead?"),
        (SEGMENTOR, "decode_head.type", "UPerHed", "Fix: did you mean UPerHead?"),
        (SEGMENTOR, "decode_head.loss_decode.loss_weigth", 1, "did you mean loss_weight?"),
        (SEGMENTOR, "decode_head.num_classes", None, "expected a value, which mmseg.UPerHead need"),
        (SEGMENTOR, "neck.scals", 1, "mimseg.FeaturePyramid. Fix: did you mean scales?"),
        (DETECTOR, "rpn_head.anchor_generator.scaless", 3, "Fix: did you mean scales?"),
        (DETECTOR, "roi_head.bbox_head.num_clases", 3, "Fix: did you mean num_classes?"),
        (DETECTOR, "roi_head.mask_head.type", "FCNMaskHed", "Fix: did you mean FCNMaskHead?"),
        (DETECTOR, "train_cfg.rpn.assigner.pos_iou_th", 0.5, "Fix: did you mean pos_iou_thr?"),
        (
            DETECTOR,
            "roi_head.bbox_roi_extractor.roi_layer.output_sise",
            7,
            "an option of RoIAlign. Fix: did you mean output_size?",
        ),
    ],
)
def test_a_model(name, key, value, message):
    cfg = config(name)
    put(cfg.model, key, value)
    with pytest.raises(UserError) as caught:
        check_model(cfg)
    assert_names(caught.value, f"model.{key}")
    assert message in str(caught.value) and "\n" not in str(caught.value)


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    for number in range(4):
        Image.fromarray(np.zeros((32, 32, 3), np.uint8)).save(folder / f"{number}.png")
    return str(folder)


@pytest.mark.parametrize(
    "key, value, message",
    [
        ("optim_wrapper.optimizer.lrr", 1, "an option of AdamW. Fix: did you mean lr?"),
        (
            "optim_wrapper.optimizer.lr",
            -1.0,
            "AdamW takes (ValueError: Invalid learning rate: -1.0, in adam.py line ",
        ),
        ("optim_wrapper.clip_grd", {}, "an option of OptimWrapper. Fix: did you mean clip_grad?"),
        ("train_dataloader.dataset.pipeline.1.scal", 1, "mimseg.MIMViews. Fix: did you mean scale"),
        ("train_dataloader.dataset.pipeline.1.student.sise", 1, ".student. Fix: did you mean size"),
        ("train_dataloader.dataset.data_rot", "x", "mmpretrain.CustomDataset. Fix: did you mean d"),
        ("train_dataloader.sampler.shuffel", True, "DefaultSampler. Fix: did you mean shuffle?"),
        ("train_dataloader.sampler.type", "DefaultSample", "Fix: did you mean DefaultSampler?"),
        ("train_dataloader.pin_memry", True, "an option of DataLoader. Fix: did you mean pin_mem"),
        ("param_scheduler.0.ends", 3, "an option of LinearLR. Fix: did you mean end?"),
        ("param_scheduler.0.type", "LinearLRR", "parameter schedulers. Fix: did you mean LinearLR"),
        ("train_cfg.max_epoch", 3, "EpochBasedTrainLoop. Fix: did you mean max_epochs?"),
        ("train_cfg.type", "EpochBasedTrainLop", "Fix: did you mean EpochBasedTrainLoop?"),
        ("default_hooks.checkpoint.intervall", 3, "CheckpointHook. Fix: did you mean interval?"),
        ("default_hooks.chekpoint", dict(interval=1), "Fix: did you mean default_hooks.checkpoint"),
        ("custom_hooks", [dict(type="EMAHok")], "custom_hooks.0.type = 'EMAHok': "),
        ("custom_hooks", [dict(type="EMAHook", momentu=1)], "custom_hooks.0.momentu = 1: "),
        ("randomness", dict(determinstic=True), "Fix: did you mean deterministic?"),
        ("visualizer.nme", "x", "an option of UniversalVisualizer. Fix: did you mean name?"),
    ],
)
def test_all_else_that_a_training_builds(key, value, message, images, tmp_path, monkeypatch):
    monkeypatch.setattr(loops.EpochLoop, "run", lambda loop: pytest.fail("it trains"))
    cfg = config(MIM)
    options = dict(batch_size=2, num_workers=0, persistent_workers=False)
    merge_options(cfg, {f"train_dataloader.{name}": v for name, v in options.items()})
    merge_options(cfg, {"data_root": images})
    put(cfg, key, value)
    cfg.work_dir, cfg.launcher = str(tmp_path), "none"
    with pytest.raises(UserError) as caught:
        check_config(cfg, ("train",))
        train(cfg)
    assert_names(caught.value, key)
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_a_metric_that_drops_what_it_does_not_know(tmp_path):
    cfg = config(SEGMENTOR)
    cfg.val_evaluator.iou_metric = ["mIoU"]
    with pytest.raises(UserError, match=r"val_evaluator\.iou_metric = .*mean iou_metrics\?"):
        check_config(cfg, ("val",))


@pytest.mark.parametrize(
    "key, value, message",
    [
        ("model.bakbone.frozen", True, "did you mean model.backbone.frozen?"),
        ("default_hooks.chekpoint.interval", 1, "did you mean default_hooks.checkpoint.interval?"),
        ("model.test_cfg.mod", "slide", "did you mean model.test_cfg.mode?"),
        ("param_scheduler.7.end", 1, "one of the list's 2 items, from param_scheduler.0 on"),
        ("param_scheduler.end", 1, "one of the list's 2 items"),
        ("param_scheduler.0", 1, "one of the list's 2 items"),
        ("model.backbone.arch.num_layers", 3, "a key of a dict; model.backbone.arch is 'mini'"),
        ("model.backbone.arch", dict(num_layers=3), "a plain value, as 'mini'"),
        ("modle.backbone.frozen", True, "did you mean model?"),
    ],
)
def test_settings_that_lead_nowhere(key, value, message):
    with pytest.raises(UserError) as caught:
        merge_options(config(SEGMENTOR), {key: value})
    assert str(caught.value).startswith(f"--cfg-options = {key!r}: ")
    assert message in str(caught.value)


def test_settings_that_are_new_are_merged():
    cfg = config(SEGMENTOR)
    settings = {
        "optim_wrapper.clip_grad.max_norm": 1.0,
        "env_cfg.dist_cfg.backend": "gloo",
        "model.backbone.layer_scale": 0.1,
        "randomness.deterministic": True,
        "param_scheduler.0.end": 3,
    }
    merge_options(cfg, settings)
    assert cfg.optim_wrapper.clip_grad.max_norm == 1.0 and cfg.param_scheduler[0].end == 3
    cfg.model.teachers = dict(teacher1=dict(type="x"))
    merge_options(cfg, {"model.teachers.teacher2.type": "y"})
    assert cfg.model.teachers.teacher2.type == "y"


def test_a_stage(tmp_path):
    cfg = config("dbot/dbot_vit-mini-p8_1xb64-2x20e_scenes")
    cfg.work_dir = str(tmp_path)
    cfg.stages[1]["teacher_options"] = dict(final_nrm=True)
    with pytest.raises(UserError, match=r"model\.teacher\.final_nrm.*did you mean final_norm\?"):
        for stage in stage_configs(cfg).values():
            check_model(stage)


def test_errors_of_a_training_are_let_through():
    DefaultScope.get_instance("test errors", scope_name="mmengine")

    def step(rate):
        raise AssertionError

    cfg = dict(model=dict(type="mimseg.ViT", lr=1))
    with (
        pytest.raises(TypeError, match="unexpected keyword argument 'lr'"),
        report_build_errors(cfg),
    ):
        step(lr=1)
    with pytest.raises(KeyError, match="images"), report_build_errors(cfg):
        {}["images"]
    with pytest.raises(RuntimeError), report_build_errors(cfg):
        MODELS.build(dict(type=lambda: (_ for _ in ()).throw(RuntimeError("out of memory"))))
