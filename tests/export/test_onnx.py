"""tools/export.py: each kind of file gives what torch gives, at sizes other than the example's."""

import json
import sys
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope
from torch import nn

from mimseg.cli.export import main as export_main
from mimseg.errors import UserError
from mimseg.export.check import largest_difference
from mimseg.export.model import ExportedModel
from mimseg.export.pooling import free_pools
from mimseg.layers import decomposed_position
from mimseg.registry import MODELS

onnxruntime = pytest.importorskip("onnxruntime")
onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxscript")

ARCH = dict(embed_dims=48, num_layers=1, num_heads=4, feedforward_channels=96)
VIT = dict(type="mimseg.ViT", arch=ARCH, img_size=32, patch_size=8)
MEAN, STD = [123.675, 116.28, 103.53], [58.395, 57.12, 57.375]
CLASSIFIER = dict(
    type="mmpretrain.ImageClassifier",
    data_preprocessor=dict(
        type="mmpretrain.ClsDataPreprocessor", num_classes=5, to_rgb=True, mean=MEAN, std=STD
    ),
    backbone=VIT | dict(out_type="avg_featmap", final_norm=False, drop_path_rate=0.5),
    head=dict(type="mmpretrain.LinearClsHead", num_classes=5, in_channels=48),
)
NORM = dict(type="SyncBN", requires_grad=True)
SEGMENTOR = dict(
    type="mmseg.EncoderDecoder",
    data_preprocessor=dict(
        type="mmseg.SegDataPreProcessor", mean=MEAN, std=STD, bgr_to_rgb=True, size=(32, 32)
    ),
    backbone=VIT | dict(pos_embed="learned", out_indices=(0, 0, 0), final_norm=False),
    neck=dict(type="mimseg.FeaturePyramid", in_channels=48, scales=(2, 1, 0.5)),
    decode_head=dict(
        type="mmseg.UPerHead",
        in_channels=[48] * 3,
        in_index=[0, 1, 2],
        pool_scales=(1, 3),
        channels=16,
        dropout_ratio=0.1,
        num_classes=5,
        norm_cfg=NORM,
        align_corners=False,
    ),
    test_cfg=dict(mode="slide", crop_size=(40, 32), stride=(20, 16)),
)
WINDOWS = dict(
    arch=ARCH | dict(num_layers=2),
    with_cls_token=False,
    window_size=3,
    global_blocks=(1,),
    decomposed_rel_pos=True,
    img_size=40,
)


@pytest.fixture
def case(tmp_path):
    """Make a config file and a work dir with a checkpoint of its model, every weight random."""

    def make(model, scope="mmpretrain", **meta):
        config = tmp_path / "small.py"
        Config(dict(model=model, default_scope=scope)).dump(config)
        DefaultScope.get_instance(f"test {tmp_path}", scope_name=scope)
        built = MODELS.build(Config.fromfile(config).model)
        for value in [*built.parameters(), *built.buffers()]:
            if value.is_floating_point():
                nn.init.uniform_(value, *((0.5, 1.5) if value.ndim == 1 else (-0.3, 0.3)))
        run = tmp_path / "run"
        run.mkdir()
        torch.save({"state_dict": built.state_dict(), "meta": meta}, run / "iter_3.pth")
        (run / "last_checkpoint").write_text("iter_3.pth")
        return built.eval(), [str(config), str(run), str(tmp_path / "out" / "small.onnx")]

    return make


def outputs(path, images):
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return [torch.from_numpy(o) for o in session.run(None, {"images": images.numpy()})]


def close(found, expected):
    for a, b in zip(found, expected, strict=True):
        assert (a - b).abs().max() < 1e-4 * b.abs().max() and b.std() > 0


def axes(values):
    shapes = {v.name: v.type.tensor_type.shape.dim for v in values}
    return {name: [d.dim_param or d.dim_value for d in dims] for name, dims in shapes.items()}


@torch.no_grad()
def test_classifier_takes_pixels(case, capsys):
    model, argv = case(CLASSIFIER, dataset_meta=dict(classes=("a", "b", "c", "d", "e")))
    assert export_main([*argv, "--normalize", "--opset", "20"]) == 0
    told = capsys.readouterr().out
    assert "logits (batch, 5)" in told and "the largest difference is" in told
    for batch in (1, 3):
        pixels = torch.rand(batch, 3, 32, 32) * 255
        normal = (pixels - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)
        close(outputs(argv[2], pixels), [model(normal, mode="tensor")])
    written = onnx.load(argv[2])
    assert written.opset_import[0].version == 20
    assert axes(written.graph.input) == {"images": ["batch", 3, 32, 32]}
    assert axes(written.graph.output) == {"logits": ["batch", 5]}
    facts = {p.key: p.value for p in written.metadata_props}
    assert facts["mimseg.input"] == "RGB, from 0 to 255"
    assert json.loads(facts["mimseg.mean"]) == MEAN
    assert json.loads(facts["mimseg.classes"]) == ["a", "b", "c", "d", "e"]
    assert (facts["mimseg.config"], facts["mimseg.checkpoint"]) == ("small.py", "iter_3.pth")

    assert export_main(argv) == 2
    assert "--force" in capsys.readouterr().err


@torch.no_grad()
def test_maps_of_a_classifiers_backbone_at_any_size(case):
    """Relative tables of each block, layer scale, a learned embedding that is resized."""
    options = dict(rel_pos_bias="per_block", layer_scale=0.1, pos_embed="learned")
    arch = ARCH | dict(num_layers=2)
    backbone = CLASSIFIER["backbone"] | options | dict(arch=arch, out_indices=(0, -1))
    _, argv = case(CLASSIFIER | dict(backbone=backbone))
    assert export_main([*argv, "--what", "features", "--dynamic"]) == 0
    source = ExportedModel.build(Config.fromfile(argv[0]), argv[1], "features")
    for shape in [(1, 3, 32, 32), (3, 3, 44, 35), (2, 3, 64, 48)]:
        images = torch.randn(shape)
        expected = source.module(images)
        assert expected[1].shape[2:] == (-(-shape[2] // 8), -(-shape[3] // 8))
        close(outputs(argv[2], images), expected)
    written = onnx.load(argv[2])
    assert axes(written.graph.input) == {"images": ["batch", 3, "height", "width"]}
    assert list(axes(written.graph.output)) == ["features_0", "features_1"]


@torch.no_grad()
def test_maps_of_a_backbone_with_windows(case, capsys, monkeypatch):
    monkeypatch.setattr(decomposed_position, "_MASK_TOKENS", 16)  # windows have 9, the map has 25
    model, argv = case(VIT | WINDOWS)
    assert export_main([*argv, "--dynamic"]) == 2
    assert "--dynamic" in (told := capsys.readouterr().err) and "--size" in told
    assert export_main(argv) == 0
    for batch in (1, 3):
        images = torch.randn(batch, 3, 40, 40)
        close(outputs(argv[2], images), model(images))
    facts = {p.key: p.value for p in onnx.load(argv[2]).metadata_props}
    assert "mimseg.mean" not in facts and "normalized" in facts["mimseg.input"]


@torch.no_grad()
def test_segmentor_at_any_size(case, capsys):
    model, argv = case(SEGMENTOR, scope="mmseg")
    assert export_main([*argv, "--dynamic"]) == 0
    assert "logits (batch, 5, 40, 32) for 40 x 32" in capsys.readouterr().out
    for shape in [(1, 3, 40, 32), (3, 3, 52, 75), (2, 3, 96, 64)]:
        images = torch.randn(shape)
        expected = model.encode_decode(images, [dict(img_shape=images.shape[2:])])
        assert expected.shape == (shape[0], 5, *shape[2:])
        close(outputs(argv[2], images), [expected])
    facts = {p.key: p.value for p in onnx.load(argv[2]).metadata_props}
    assert facts["mimseg.input"].startswith("RGB, normalized") and "mimseg.std" in facts


@pytest.mark.parametrize("size", [(7, 5), (6, 4), (4, 9)])
def test_pools(size):
    sizes = (1, 3, 6, (2, None), (None, 4))
    pools = [nn.AdaptiveAvgPool2d(size) for size in sizes] + [nn.MaxPool2d(2, 2), nn.MaxPool2d(3)]
    net = nn.ModuleList([nn.Sequential(pool) for pool in pools])
    x = torch.randn(2, 3, *size)
    expected = [pool(x) for pool in net]
    with free_pools(net):
        assert [a[0] is b for a, b in zip(net, pools, strict=True)] == [False] * 6 + [True]
        for pool, result in zip(net, expected, strict=True):
            torch.testing.assert_close(pool(x), result)
    assert all(a[0] is b for a, b in zip(net, pools, strict=True))


def test_the_check_fails(tmp_path, monkeypatch):
    helper, kind = onnx.helper, onnx.TensorProto.FLOAT
    node = helper.make_node("Identity", ["x"], ["y"])
    places = [helper.make_tensor_value_info(name, kind, [2, 3, 4, 4]) for name in "xy"]
    graph = helper.make_graph([node], "g", places[:1], places[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.save(model, path := tmp_path / "same.onnx")
    x = torch.randn(2, 3, 4, 4)
    assert largest_difference(path, [(x, (x,))]) == 0.0
    for images, wrong, told in [
        (x, x + 2e-4 * x.abs().max(), "y differs by"),
        (x, x * torch.nan, "y differs by nan"),
        (x, x[:1], "y is"),
        (x[:1], x[:1], "index: 0 Got: 1 Expected: 2|invalid dimensions"),
    ]:
        with pytest.raises(UserError, match=told):
            largest_difference(path, [(x, (x,)), (images, (wrong,))])
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    assert largest_difference(path, [(x, (x + 1,))]) is None


def test_features_that_were_not_trained_are_refused(case, capsys):
    argv = [*case(CLASSIFIER)[1], "--what", "features"]
    assert export_main([*argv, "--cfg-options", "model.backbone.layer_scale=0.1"]) == 2
    assert "the file has no layers.0.attn.gamma1" in capsys.readouterr().err
    assert not Path(argv[2]).exists()


def test_bad_input(case, tmp_path, capsys):
    _, (config, run, out) = case(CLASSIFIER)
    (tmp_path / "folder.onnx").mkdir()
    (tmp_path / "empty").mkdir()
    weights = torch.load(f"{run}/iter_3.pth")["state_dict"]
    torch.save({k: v for k, v in weights.items() if "head" not in k}, tmp_path / "headless.pth")
    wide = {k: torch.ones(7, 48) if k == "head.fc.weight" else v for k, v in weights.items()}
    torch.save({"state_dict": wide}, tmp_path / "wide.pth")
    detector = tmp_path / "detector.py"
    detector.write_text(
        f"default_scope = 'mmdet'\nmodel = dict(type='MaskRCNN', backbone=dict({VIT}))"
    )
    for argv, told in [
        ([config, run, str(tmp_path / "a.pt")], "ends in .onnx"),
        ([config, run, str(tmp_path / "folder.onnx")], "a folder is there"),
        ([config, run, f"{config}/a.onnx"], f"{config} takes none"),
        ([str(tmp_path / "no.py"), run, out], "a config file"),
        ([config, str(tmp_path / "nowhere"), out], "nothing is there"),
        ([config, str(tmp_path / "empty"), out], "this folder has none that loads"),
        ([config, str(tmp_path / "headless.pth"), out], "2 are missing, the first head.fc"),
        ([config, str(tmp_path / "wide.pth"), out], "head.fc.weight"),
        ([config, run, out, "--what", "segmentor"], "'classifier' or 'features' of a Image"),
        ([config, run, out, "--size", "0", "32"], "--size"),
        ([config, run, out, "--cfg-options", "model.backbone.type=mimseg.Vit"], "mimseg.ViT"),
        (
            [config, run, out, "--cfg-options", "model.head.type=LinearHead"],
            "did you mean mimseg.LinearHead?",
        ),
        ([config, run, out, "--cfg-options", "model.backbone.patch_size=4"], "patch_embed"),
        ([str(detector), run, out], "--what features exports its backbone"),
        ([str(detector), run, out, "--what", "segmentor"], "'features' of a MaskRCNN"),
    ]:
        assert export_main(argv) == 2, argv
        error = capsys.readouterr().err
        assert told in error and error.startswith("error: ") and error.count("\n") == 1, error
    assert not (tmp_path / "out").exists()
