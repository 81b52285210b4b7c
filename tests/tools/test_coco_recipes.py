"""The COCO recipes through tools/train.py and tools/test.py, small, on generated scenes."""

import json
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS as ROOT

from mimseg.checkpoints.files import read_checkpoint
from mimseg.checkpoints.loader import load_backbone
from mimseg.cli.test import main as run_test
from mimseg.cli.train import main as train_main
from mimseg.layers import window
from mimseg.registry import MODELS
from mimseg.rehearse.config import shrink

CONFIGS = Path(__file__).parents[2] / "configs"
VITDET = CONFIGS / "coco/mask-rcnn_vit-base-vitdet_16xb4-100e_coco.py"
CASCADE = CONFIGS / "coco/cascade-mask-rcnn_vit-base_8xb2-12e_coco.py"
WINDOWS = CONFIGS / "camvid/mask-rcnn_vit-mini-windows-p8_1xb8-700i_camvid-128x128.py"
PYCOCOTOOLS = "val_evaluator.type=mmdet.CocoMetric", "test_evaluator.type=mmdet.CocoMetric"


@pytest.fixture(scope="module", autouse=True)
def unformatted_configs():
    """A run formats its config for the log and files five times, half of a short run's work."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("yapf.yapflib.yapf_api.FormatCode", lambda text, **_: (text, False))
        yield


def options(scenes):
    """Settings that put generated scenes, four images to train on, in COCO's place."""
    train, val = "annotations/instances_train.json", "annotations/instances_val.json"
    given = [f"data_root={scenes}", f"train_dataloader.dataset.ann_file={train}"]
    given += ["train_dataloader.dataset.data_prefix.img=images/training"]
    given += ["train_dataloader.batch_size=2", "optim_wrapper.type=OptimWrapper"]
    for split in ("val", "test"):
        given += [f"{split}_dataloader.dataset.ann_file={val}"]
        given += [f"{split}_dataloader.dataset.data_prefix.img=images/validation"]
        given += [f"{split}_evaluator.ann_file={scenes}/{val}"]
    for split in ("train", "val", "test"):
        given += [f"{split}_dataloader.num_workers=0"]
        given += [f"{split}_dataloader.persistent_workers=False"]
    return given


def small(path, scenes, folder):
    """The recipe's file with a small model, small images and the scenes' classes."""
    cfg = Config.fromfile(path)
    shrink(cfg)
    cfg.model.backbone.drop_path_rate = 0.0  # it may drop a block for both images of a batch
    names = json.loads((scenes / "classes.json").read_text())["things"]
    boxes = cfg.model.roi_head.bbox_head
    for head in [*(boxes if isinstance(boxes, list) else [boxes]), cfg.model.roi_head.mask_head]:
        head.num_classes = len(names)
    for split in ("train", "val", "test"):
        cfg[f"{split}_dataloader"].dataset.metainfo = dict(classes=tuple(names))
    cfg.dump(folder / path.name)
    return str(folder / path.name)


def metrics(work_dir, name):
    return json.loads((work_dir / name).read_text())["metrics"]


@pytest.fixture(scope="module")
def vitdet(scenes, tmp_path_factory):
    """The work dir and config file of a ViTDet that took two steps."""
    work_dir = tmp_path_factory.mktemp("vitdet")
    config = small(VITDET, scenes, work_dir)
    short = ["train_cfg.max_iters=2", "train_cfg.val_interval=2"]
    argv = [config, "--work-dir", str(work_dir), "--cfg-options", *options(scenes), *short]
    assert train_main(argv) == 0
    return work_dir, config


def test_vitdet_is_scored_alike_by_both_evaluators(vitdet, scenes, tmp_path):
    work_dir, config = vitdet
    faster = metrics(work_dir, "done.json")
    assert {"coco/bbox_mAP", "coco/segm_mAP"} <= set(faster)
    argv = [config, str(work_dir), "--work-dir", str(tmp_path), "--cfg-options"]
    assert run_test([*argv, *options(scenes), *PYCOCOTOOLS]) == 0
    tested = metrics(tmp_path, "test.json")
    assert {name: tested[name] for name in faster} == pytest.approx(faster, abs=1.1e-3)


def test_vitdet_decays_its_relative_positions(vitdet):
    groups = read_checkpoint(vitdet[0] / "iter_2.pth")["optimizer"]["param_groups"]
    tables = [g for g in groups if any("rel_pos_h" in name for name in g["names"])]
    assert tables and all(group["weight_decay"] == 0.1 for group in tables)
    assert any(g["weight_decay"] == 0 and "backbone.pos_embed" in g["names"] for g in groups)


def test_cascade_from_a_student_with_relative_positions(tmp_path):
    """By the options that the config's header gives for it."""
    cfg = Config.fromfile(CASCADE)
    shrink(cfg)
    options = dict(pos_embed="none", layer_scale=0.1)
    tables = dict(rel_pos_bias="per_block", rel_pos_resize="geometric")
    backbone = MODELS.build({**cfg.model.backbone, **options, **tables, "img_size": (64, 96)})
    arch, patch = cfg.model.backbone.arch, cfg.model.backbone.patch_size
    student = dict(type="mimseg.ViT", arch=arch, patch_size=patch, img_size=32, mask_mode="token")
    state = MODELS.build({**student, **options, "rel_pos_bias": "shared"}).state_dict()
    torch.save({"state_dict": {f"backbone.{k}": v for k, v in state.items()}}, tmp_path / "a.pth")
    report = load_backbone(backbone, tmp_path / "a.pth")
    assert len(report.resized) == 6 and not report.missing
    assert set(report.unexpected) == {"mask_token", "ln1.weight", "ln1.bias"}
    assert backbone(torch.rand(1, 3, 64, 96))[0].shape[-2:] == (8, 12)


def test_cascade_from_a_fine_tuned_detector(vitdet, scenes, tmp_path):
    """Its backbone is taken, with a warning; SyncBN trains on one process."""
    argv = [small(CASCADE, scenes, tmp_path), "--work-dir", str(tmp_path), "--init", str(vitdet[0])]
    argv += ["--cfg-options", *options(scenes), "train_cfg.max_epochs=1"]
    argv += ["model.backbone.with_cls_token=False"]  # as the detector was
    assert train_main(argv) == 0
    assert {"coco/bbox_mAP", "coco/segm_mAP"} <= set(metrics(tmp_path, "done.json"))
    (log,) = tmp_path.glob("*/*.log")
    (line,) = (one for one in log.read_text().splitlines() if "fine-tuned model" in one)
    assert "its rpn_head, roi_head are left out" in line and "load_from=" in line
    saved = torch.load(tmp_path / "epoch_1.pth", weights_only=False)["state_dict"]
    means = [v for name, v in saved.items() if name.endswith("running_mean")]
    assert len(means) == 3 * 4 + 1
    assert all(mean.abs().sum() > 0 for mean in means)


def test_cascade_has_batch_norms_that_processes_share():
    """A Runner turns them into plain ones where it is alone, and leaves them under DDP."""
    with torch.device("meta"), ROOT.switch_scope_and_registry("mmdet") as registry:
        model = registry.build(Config.fromfile(CASCADE).model)
    norms = [m for m in model.modules() if isinstance(m, torch.nn.modules.batchnorm._BatchNorm)]
    assert len(norms) == 3 * 4 + 1  # in three box heads and the neck
    assert all(isinstance(norm, torch.nn.SyncBatchNorm) for norm in norms)


def test_pretraining_is_loaded_without_that_warning(tiny_vit, tmp_path):
    state = {f"backbone.{name}": value for name, value in tiny_vit().state_dict().items()}
    torch.save({"state_dict": state}, tmp_path / "a.pth")
    assert "fine-tuned" not in str(load_backbone(tiny_vit(), tmp_path / "a.pth"))
    torch.save({"state_dict": state | {"decode_head.x": torch.ones(1)}}, tmp_path / "b.pth")
    assert "its decode_head are left out" in str(load_backbone(tiny_vit(), tmp_path / "b.pth"))


@pytest.mark.parametrize("path", [VITDET, CASCADE], ids=["vitdet", "cascade"])
def test_categories_that_the_config_lacks(path, scenes, tmp_path, capsys):
    argv = [str(path), "--work-dir", str(tmp_path), "--cfg-options", *options(scenes)]
    assert train_main(argv) == 2
    error = capsys.readouterr().err.strip()
    assert error.startswith("error: train_dataloader.dataset.metainfo.classes = '(person, ")
    assert "instances_train.json; 8 are missing, the first 'striped disc'" in error
    assert "set it to (striped disc" in error


def test_heads_of_another_class_count(scenes, tmp_path, capsys):
    """Found before training: mmdet would see it in the first validation."""
    argv = [small(CASCADE, scenes, tmp_path), "--work-dir", str(tmp_path)]
    argv += ["--cfg-options", *options(scenes), "model.roi_head.bbox_head.1.num_classes=80"]
    assert train_main(argv) == 2
    error = capsys.readouterr().err.strip()
    assert error.startswith("error: model.roi_head.bbox_head[1].num_classes = 80: expected 8, ")


@pytest.mark.parametrize("size", [(5, 7), (8, 8), (8, 40)], ids=str)
def test_an_image_smaller_than_a_window(size, monkeypatch):
    """Windows are padded, which is told: one patch, or a row, goes through backbone and pyramid."""
    told = []
    monkeypatch.setattr(window, "print_log", lambda text, *_: told.append(text))
    model = Config.fromfile(WINDOWS).model
    backbone, neck = MODELS.build(model.backbone).eval(), MODELS.build(model.neck)
    images = torch.randn(1, 3, *size)
    with torch.no_grad():
        (features,) = backbone(images)
        assert features.shape[2:] == (-(-size[0] // 8), -(-size[1] // 8))
        assert features.isfinite().all()
        padded = torch.zeros(1, 3, 16, 16 * -(-size[1] // 16))  # as pad_size_divisor does
        padded[..., : size[0], : size[1]] = images
        assert [level.shape[2] for level in neck(backbone(padded))] == [4, 2, 1]
    assert len(told) == 1 and "backbone.window_size = 4" in told[0] and "window_size=1" in told[0]
