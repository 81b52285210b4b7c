"""ADE20K recipes as a user runs them: BEiT-style, the linear probe, test-time augmentation."""

import itertools
import json
import re
import shutil
from pathlib import Path

import cv2
import mmcv
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from mmengine.config import Config
from mmengine.registry import DefaultScope

from mimseg.checkpoints.files import read_checkpoint
from mimseg.checkpoints.loader import load_backbone
from mimseg.cli.scenes import main as make_scenes
from mimseg.cli.test import main as run_test
from mimseg.cli.train import main as train_main
from mimseg.engine.prepare import use_tta
from mimseg.engine.run import build_runner
from mimseg.layers.relative_position import resize_relative_table
from mimseg.registry import MODELS
from mimseg.rehearse.config import shrink

from shipped import shipped_configs  # isort: skip

ROOT = Path(__file__).parents[2] / "configs"
ADE = shipped_configs("configs/ade20k")
MAE_STYLE = ROOT / "ade20k/vit-base_upernet_8xb2-160k_ade20k-512x512.py"
BEIT_STYLE = ROOT / "ade20k/maskdistill_vit-base_upernet_8xb2-160k_ade20k-512x512.py"
LINEAR = ROOT / "ade20k/linear_vit-base_8xb2-40k_ade20k-512x512.py"
PRETRAIN = ROOT / "maskdistill/maskdistill_vit-base-p16_8xb256-amp-300e_in1k.py"
DETECTION = ROOT / "scenes/mask-rcnn_vit-mini-p8_1xb8-600i_scenes-64x64.py"
RATIOS = (0.5, 0.75, 1.0, 1.25, 1.5, 1.75)


@pytest.mark.parametrize("path", ADE, ids=lambda path: path.stem)
def test_sizes_and_lengths_agree(path):
    """{backbone}_{head}_8xb2-{iterations}_ade20k-{crop}x{crop}, throughout the config."""
    pattern = r"[\w-]+_(\d+)xb(\d+)-(\d+)k_ade20k-(\d+)x\4"
    gpus, size, thousands, side = map(int, re.fullmatch(pattern, path.stem).groups())
    cfg = Config.fromfile(path)
    model, backbone = cfg.model, cfg.model.backbone
    assert cfg.train_dataloader.batch_size == size
    assert cfg.auto_scale_lr.base_batch_size == gpus * size == 16
    warmup, decay = cfg.param_scheduler
    assert cfg.train_cfg.max_iters == decay.end == 1000 * thousands
    assert (warmup.end, warmup.start_factor, decay.begin, decay.power) == (1500, 1e-6, 1500, 1)
    assert backbone.img_size == side
    assert tuple(model.data_preprocessor.size) == tuple(model.test_cfg.crop_size) == (side, side)
    assert model.test_cfg.mode == "slide"
    assert tuple(model.test_cfg.stride) == (side * 2 // 3,) * 2
    assert side % backbone.patch_size == 0
    assert model.data_preprocessor.test_cfg.size_divisor == backbone.patch_size
    train = {step.type: step for step in cfg.train_dataloader.dataset.pipeline}
    assert tuple(train["RandomCrop"].crop_size) == (side, side)
    assert tuple(train["RandomResize"].scale) == (4 * side, side)
    for loader in (cfg.val_dataloader, cfg.test_dataloader):
        assert tuple(loader.dataset.pipeline[1].scale) == (4 * side, side)
    resizes, flips, _, _ = cfg.tta_pipeline[1].transforms
    expected = [(int(ratio * 4 * side), int(ratio * side)) for ratio in RATIOS]
    assert [tuple(step.scale) for step in resizes] == expected
    assert [step.prob for step in flips] == [0, 1]


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    """Generated scenes; those to be tested are no squares and no whole number of patches."""
    out = tmp_path_factory.mktemp("data") / "scenes"
    counts = ["--train", "4", "--val", "2", "--test", "2", "--unlabelled", "8"]
    assert make_scenes([str(out), *counts, "--seed", "0", "--workers", "1"]) in (0, None)
    for kind in ("images", "annotations"):
        for file in (out / kind / "validation").iterdir():
            cv2.imwrite(str(file), cv2.imread(str(file), cv2.IMREAD_UNCHANGED)[:50, :60])
    return out


@pytest.fixture(scope="module")
def pretrained(scenes, tmp_path_factory):
    """MaskDistill for one epoch: layer scale, one table of relative positions for all blocks."""
    work_dir = tmp_path_factory.mktemp("maskdistill")
    cfg = Config.fromfile(PRETRAIN)
    shrink(cfg, img_size=32)
    cfg.optim_wrapper.type = "OptimWrapper"  # not every CPU computes in bfloat16
    cfg.train_cfg.max_epochs = 1
    cfg.dump(work_dir / "config.py")
    options = ["--cfg-options", f"data_root={scenes}/unlabelled"]
    argv = [str(work_dir / "config.py"), "--work-dir", str(work_dir / "run"), *options]
    assert train_main(argv) == 0
    return work_dir / "run"


def small(path, scenes):
    """A recipe at an eighth of its size: crops of 64 px, for three iterations."""
    cfg = Config.fromfile(path)
    shrink(cfg)
    cfg.model.backbone.drop_path_rate = 0.0  # it may drop a block for both images of a batch
    cfg.merge_from_dict({"train_cfg.max_iters": 3, "train_cfg.val_interval": 3})
    cfg.param_scheduler[0].start_factor = 0.5  # three steps of the warmup would move nothing
    for node in (cfg.train_dataloader, cfg.val_dataloader, cfg.test_dataloader):
        node.update(num_workers=0, persistent_workers=False)
        node.dataset.data_root = str(scenes)
    return cfg


def build_backbone(cfg):
    DefaultScope.get_instance("ade20k backbone", scope_name="mmseg")
    vit = MODELS.build(cfg.model.backbone)
    vit.init_weights()
    return vit


def backbone_of(state):
    return {k.removeprefix("backbone."): v for k, v in state.items() if k.startswith("backbone.")}


def train_small(cfg, folder, init):
    """Train by the command; the checkpoint."""
    cfg.dump(folder / "config.py")
    argv = [str(folder / "config.py"), "--work-dir", str(folder / "run"), "--init", str(init)]
    assert train_main(argv) == 0
    assert 0 <= json.loads((folder / "run/done.json").read_text())["metrics"]["mIoU"] <= 100
    return read_checkpoint(folder / "run/iter_3.pth")


def test_a_shared_table_becomes_one_a_block(pretrained, scenes):
    saved = backbone_of(read_checkpoint(pretrained / "epoch_1.pth")["state_dict"])
    table = saved["rel_pos_bias.relative_position_bias_table"]
    assert table.abs().sum() > 0  # one step moved it
    for path, method, new in (
        (BEIT_STYLE, "geometric", ()),
        (MAE_STYLE, "bicubic", ("pos_embed",)),
    ):
        vit = build_backbone(small(path, scenes))
        report = load_backbone(vit, pretrained)
        assert report.missing == new
        assert report.unexpected == ("mask_token", "ln1.weight", "ln1.bias")
        expected = resize_relative_table(table, (4, 4), (8, 8), method)
        for block, layer in enumerate(vit.layers):
            assert torch.equal(layer.attn.relative_position_bias_table, expected)
            assert torch.equal(
                layer.attn.gamma1.weight, saved[f"layers.{block}.attn.gamma1.weight"]
            )
    for path in (BEIT_STYLE, MAE_STYLE):
        cfg = small(path, scenes)
        cfg.model.backbone.rel_pos_bias = "shared"
        report = load_backbone(vit := build_backbone(cfg), pretrained)
        assert "rel_pos_bias.relative_position_bias_table" in report.resized
        assert vit.rel_pos_bias.relative_position_bias_table.shape == expected.shape


def test_beit_style_trains_in_one_process(pretrained, scenes, tmp_path, capsys):
    cfg = small(BEIT_STYLE, scenes)
    kinds = {m.norm_cfg.type for m in (cfg.model.decode_head, cfg.model.auxiliary_head)}
    assert kinds | {cfg.model.neck.norm} == {"SyncBN"}
    options = dict(cfg.optim_wrapper.paramwise_cfg)
    state = train_small(cfg, tmp_path, pretrained)
    names = [n for n in state["state_dict"] if n.endswith("running_var")]
    assert any(n.startswith("neck.") for n in names)
    before = build_backbone(small(BEIT_STYLE, scenes))
    load_backbone(before, pretrained)
    after = backbone_of(state["state_dict"])
    assert [n for n, p in before.named_parameters() if torch.equal(after[n], p)] == []
    groups = state["optimizer"]["param_groups"]
    scales = sorted({round(group["lr_scale"], 6) for group in groups})
    depths = range(7, -1, -1)  # stem, six blocks, heads
    assert scales == [round(options["layer_decay_rate"] ** d, 6) for d in depths]
    # the rate of a group that starts below an absolute eta_min would rise
    argv = [str(tmp_path / "config.py"), "--work-dir", str(tmp_path / "lifted"), "--cfg-options"]
    assert train_main([*argv, "param_scheduler.1.eta_min=5e-5"]) == 2
    error = capsys.readouterr().err
    assert "error: param_scheduler[1].eta_min = 5e-05: expected at most 1.07e-05" in error
    assert not list((tmp_path / "lifted").glob("*.pth"))


def test_linear_probe_trains_the_head_alone(pretrained, scenes, tmp_path):
    cfg = small(LINEAR, scenes)
    cfg.model.backbone.update(pos_embed="none", rel_pos_bias="shared", layer_scale=0.1)
    cfg.model.backbone.drop_path_rate = 0.3  # would act outside eval mode
    before = build_backbone(cfg)
    load_backbone(before, pretrained)
    state = train_small(cfg, tmp_path, pretrained)
    after = backbone_of(state["state_dict"])
    frozen = before.state_dict()
    assert set(after) == set(frozen) and all(torch.equal(after[n], frozen[n]) for n in frozen)
    names = [name for group in state["optimizer"]["param_groups"] for name in group["names"]]
    head = ["decode_head." + n for n in ("conv_seg.bias", "conv_seg.weight", "norm.bias")]
    assert sorted(names) == [*head, "decode_head.norm.weight"]
    assert len(state["optimizer"]["state"]) == len(names)
    weights = state["state_dict"]
    assert weights["decode_head.norm.num_batches_tracked"] == 3
    assert weights["decode_head.norm.bias"].abs().sum() > 0


@torch.no_grad()
def merged(model, cfg, image, ratios=RATIOS, flips=(False, True)):
    """The mean of the softmaxed scores of all views, each brought back: the class of each pixel."""
    mean, std = (torch.tensor(cfg.data_preprocessor[key])[:, None, None] for key in ("mean", "std"))
    total = 0
    for ratio, flip in itertools.product(ratios, flips):
        view = mmcv.imrescale(image, (int(ratio * 2048) // 8, int(ratio * 512) // 8))
        x = (torch.from_numpy(view[..., ::-1].copy()).permute(2, 0, 1).float() - mean) / std
        x = x.flip(2) if flip else x
        height, width = x.shape[1:]
        x = F.pad(x, (0, -width % 8, 0, -height % 8))[None]  # whole patches
        scores = model.decode_head(model.neck(model.backbone(x)))
        scores = F.interpolate(scores, x.shape[2:], mode="bilinear")[..., :height, :width]
        scores = F.interpolate(scores.flip(3) if flip else scores, image.shape[:2], mode="bilinear")
        total = total + scores.softmax(1)
    return total[0].argmax(0)


def miou(pairs):
    """Mean over the classes that occur, in percent; 255 is ignored."""
    seen, labels = (torch.cat(maps) for maps in zip(*pairs, strict=True))
    seen, labels = seen[labels != 255], labels[labels != 255]
    both = torch.bincount(seen[seen == labels], minlength=150)
    union = torch.bincount(seen, minlength=150) + torch.bincount(labels, minlength=150) - both
    return 100 * (both[union > 0] / union[union > 0]).mean().item()


def test_tta_is_the_mean_of_the_views(scenes, tmp_path, capsys):
    cfg = small(MAE_STYLE, scenes)
    cfg.model.test_cfg = dict(mode="whole")
    cfg.work_dir = str(tmp_path / "build")
    cfg.dump(tmp_path / "config.py")
    model = build_runner(Config.fromfile(tmp_path / "config.py")).model
    model.init_weights()
    for parameter in model.parameters():  # as if trained: classes differ from place to place
        parameter.data += 0.05 * torch.randn_like(parameter)
    torch.nn.init.normal_(model.decode_head.conv_seg.weight)
    model.decode_head.conv_seg.bias.data[11:] = -50.0  # the scenes have eleven classes at most
    torch.save(dict(state_dict=model.state_dict()), tmp_path / "model.pth")
    model.eval()

    files = sorted((scenes / "images/validation").iterdir())
    images = [cv2.imread(str(file)) for file in files]
    assert {image.shape[:2] for image in images} == {(50, 60)}
    expected = [merged(model, cfg.model, image) for image in images]
    plain = [merged(model, cfg.model, image, (1.0,), (False,)) for image in images]
    assert all(len(maps.unique()) > 2 for maps in expected)
    assert not any(torch.equal(one, other) for one, other in zip(expected, plain, strict=True))

    augmented = Config.fromfile(tmp_path / "config.py")
    use_tta(augmented)
    runner = build_runner(augmented)
    runner.model.module.load_state_dict(model.state_dict())
    for batch, want in zip(
        runner.build_dataloader(augmented.test_dataloader), expected, strict=True
    ):
        assert [len(views) for views in batch["inputs"]] == [1] * 12
        with torch.no_grad():
            (sample,) = runner.model.eval().test_step(batch)
        assert (sample.pred_sem_seg.data == want).float().mean() > 0.999

    argv = [str(tmp_path / "config.py"), str(tmp_path / "model.pth"), "--work-dir"]
    masks = scenes / "annotations/validation"
    labels = [cv2.imread(str(masks / f"{f.stem}.png"), cv2.IMREAD_UNCHANGED) for f in files]
    labels = [torch.from_numpy((m.astype(np.int64) - 1) % 256).flatten() for m in labels]
    for flags, maps in ((["--tta"], expected), ([], plain)):
        assert run_test([*argv, str(tmp_path / "out"), *flags]) == 0
        record = json.loads((tmp_path / "out/test.json").read_text())
        assert record["tta"] == bool(flags)
        want = miou([(m.flatten(), label) for m, label in zip(maps, labels, strict=True)])
        assert record["metrics"]["mIoU"] == pytest.approx(want, abs=0.1)

    # nothing to do it with
    shutil.rmtree(tmp_path / "out")
    argv = [*argv, str(tmp_path / "out"), "--tta", "--cfg-options"]
    capsys.readouterr()
    for key in ("tta_pipeline", "tta_model"):
        assert run_test([*argv, f"{key}=None"]) == 2
        assert f"error: {key} = None: expected a " in capsys.readouterr().err
    argv[0] = str(DETECTION)
    assert run_test([*argv, f"data_root={scenes}"]) == 2
    assert "not offered for detection" in capsys.readouterr().err
