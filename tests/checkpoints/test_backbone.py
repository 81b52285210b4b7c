"""mimseg.load builds what a checkpoint holds, or says which option it needs."""

import logging
import math
import os

import pytest
import torch
from mmengine.config import Config

from mimseg.checkpoints.backbone import load
from mimseg.checkpoints.convert import convert
from mimseg.checkpoints.families import HF
from mimseg.checkpoints.loader import load_backbone
from mimseg.checkpoints.vit_shape import shape_of
from mimseg.checkpoints.written_config import parse_config
from mimseg.errors import UserError
from mimseg.students.vit import ViT

from test_recognise import ARCH, CASES, GAMMA, LEARNED, TABLE, vit  # isort: skip

WIDE = dict(embed_dims=24, num_layers=3, num_heads=4, feedforward_channels=36)


def shaken(**options):
    """A small ViT with every weight random, what starts at zero too."""
    model = ViT(**dict(arch=WIDE, img_size=32, patch_size=8, pos_embed="learned") | options)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)
    return model.eval()


def save(path, model, cfg=None, prefix="backbone.", **rest):
    """A checkpoint as mmengine's Runner writes it, with the config's text if there is one."""
    state = {prefix + name: value for name, value in model.state_dict().items()} | rest
    meta = dict(iter=1) if cfg is None else dict(iter=1, cfg=Config(cfg).pretty_text)
    torch.save({"meta": meta, "state_dict": state}, path)
    return path


def assert_same_features(one, other, *sizes):
    """Equal tokens after every block, on images of these sizes."""
    layers = range(one.num_layers)
    for size in sizes or [(32, 32)]:
        images = torch.randn(2, 3, *size)
        a, b = one.features(images, layers), other.features(images, layers)
        assert torch.equal(a["patches"], b["patches"])
        for layer in layers:
            assert torch.equal(a["layers"][layer], b["layers"][layer])
        assert (a["cls"] is None) == (b["cls"] is None)
        assert a["cls"] is None or torch.equal(a["cls"], b["cls"])
    assert a["patches"].std() > 0.1


def hugging_face():
    state = ViT(ARCH, img_size=8, patch_size=4, pos_embed="learned").state_dict()
    return HF.to_theirs({f"backbone.{name}": torch.randn_like(v) for name, v in state.items()})


FILES = {name: (lambda case=case: case[0], case[2]) for name, case in CASES.items()}
FILES["hf"] = (hugging_face, LEARNED)


@pytest.mark.parametrize("prefix", ["", "module.encoder."])
@pytest.mark.parametrize("family", FILES)
def test_a_file_of_every_family_is_built_and_loaded(family, prefix, tmp_path):
    make, options = FILES[family]
    path = tmp_path / "official.pth"
    torch.save({"model": {prefix + name: value for name, value in make().items()}}, path)
    model = load(path, **({} if "rel_pos_bias" in options else dict(num_heads=2)))
    by_hand = ViT(ARCH, img_size=8, patch_size=4, **options)
    report = load_backbone(by_hand, path)
    assert not report.missing and not report.unexpected and not model.training
    assert model.mask_mode == by_hand.mask_mode and model.base_grid == (2, 2)
    assert_same_features(model, by_hand.eval(), (8, 8), (12, 20))
    assert model.transform.size == 8


ODD = {
    "heads": dict(arch=WIDE | dict(num_heads=6), last_block_heads=2, norm_eps=1e-2),
    "scale and token": dict(layer_scale=0.1, mask_mode="token", final_norm=False, qkv_bias=False),
    "not square": dict(img_size=(16, 40), rel_pos_bias="per_block"),
    "a square of other sides": dict(img_size=(8, 72)),
    "shared": dict(img_size=30, pos_embed="none", rel_pos_bias="shared"),
    "fixed positions": dict(pos_embed="sincos", shifted_sampling=True),
    "nothing": dict(pos_embed="none", img_size=24, with_cls_token=False),
    "windows": dict(with_cls_token=False, window_size=2, global_blocks=[1]),
    "every block in windows": dict(
        with_cls_token=False, window_size=2, global_blocks=[], decomposed_rel_pos=True
    ),
    "ViTDet": dict(
        with_cls_token=False, window_size=2, global_blocks=[-1], decomposed_rel_pos=True
    ),
}


@pytest.mark.parametrize("case", ODD)
def test_what_a_run_saved_comes_back(case, tmp_path):
    options = dict(type="mimseg.ViT", arch=WIDE, img_size=32, patch_size=8, pos_embed="learned")
    options |= ODD[case]
    model = shaken(**{name: value for name, value in options.items() if name != "type"})
    training = dict(drop_path_rate=0.5, frozen=True, init_cfg=dict(type="Pretrained"))
    cfg = dict(model=dict(type="mimseg.MaskedImageModeling", backbone=options | training))
    path = save(tmp_path / "iter_1.pth", model, cfg, **{"objectives.loss.head.w": torch.ones(1)})
    back = load(path)
    assert_same_features(model, back, (32, 32), (24, 44))
    assert back.base_grid == model.base_grid and back.pos_kind == model.pos_kind
    assert back.transform.size == options["img_size"]
    assert back.cls_token is None or back.cls_token.requires_grad


def test_decomposed_positions_tell_heads_and_windows(tmp_path):
    model = shaken(**ODD["ViTDet"] | dict(img_size=(32, 48)))
    shape = shape_of(model.state_dict())
    assert (shape.heads, shape.window, shape.global_blocks) == (4, 2, (2,))
    assert shape.img_size == (32, 48)
    assert_same_features(model, load(save(tmp_path / "a.pth", model)), (32, 48))


def test_fixed_positions_are_told_from_learned_ones(tmp_path):
    for kind in ("sincos", "learned"):
        model = ViT(WIDE, img_size=32, patch_size=8, pos_embed=kind)
        model.init_weights()
        state = {name: value.half() for name, value in model.state_dict().items()}
        assert shape_of(state).options().get("pos_embed", "sincos") == kind


@pytest.mark.parametrize("library", ["timm", "hf", "mmpretrain", "mimseg"])
@pytest.mark.parametrize("kind", ["plain", "beit"])
def test_out_to_a_library_and_back(library, kind, tmp_path):
    beit = dict(pos_embed="none", rel_pos_bias="per_block", layer_scale=0.1)
    model = shaken(**(beit if kind == "beit" else {}))
    for block in model.layers:
        block.attn.qkv.bias.data.chunk(3)[1].zero_()  # BEiT has none
    convert(save(tmp_path / "a.pth", model), tmp_path / "b.safetensors", to=library)
    back = load(tmp_path / "b.safetensors", **({} if kind == "beit" else dict(num_heads=4)))
    assert_same_features(model, back)


def test_a_work_dir_whose_checkpoint_has_no_config(tmp_path):
    options = dict(type="mimseg.ViT", arch=WIDE, img_size=32, patch_size=8, norm_eps=1e-2)
    model = shaken(norm_eps=1e-2)
    save(tmp_path / "iter_1.pth", model)
    (tmp_path / "last_checkpoint").write_text("/gone/iter_1.pth")
    with pytest.raises(UserError, match="num_heads"):
        load(tmp_path)
    cfg = dict(model=dict(type="mmseg.EncoderDecoder", backbone=options))
    Config(cfg).dump(tmp_path / "upernet.py")
    assert_same_features(model, load(tmp_path))


def test_a_segmentor(tmp_path):
    model, heads = shaken(), {"decode_head.conv_seg.weight": torch.ones(2)}
    preprocessor = dict(mean=[10.0, 20.0, 30.0], std=[51.0, 102.0, 204.0], bgr_to_rgb=True)
    backbone = dict(type="mimseg.ViT", arch=WIDE, img_size=32, patch_size=8, out_indices=(0, 2))
    segmentor = dict(type="mmseg.EncoderDecoder", data_preprocessor=preprocessor, backbone=backbone)
    cfg = dict(model=dict(type="SegTTAModel", module=segmentor))
    back = load(save(tmp_path / "a.pth", model, cfg, **heads))
    assert_same_features(model, back)
    assert len(back(torch.zeros(1, 3, 32, 32))) == 1
    assert back.transform.mean == pytest.approx([x / 255 for x in (10, 20, 30)])
    assert back.transform.std == pytest.approx((0.2, 0.4, 0.8)) and not back.transform.bgr


def test_mean_and_std(tmp_path):
    model = shaken()
    backbone = dict(type="mimseg.ViT", arch=WIDE)
    cfg = dict(model=dict(backbone=backbone, mean=(0.1, 0.2, 0.3), std=(0.5, 0.5, 0.5)))
    path = save(tmp_path / "pretraining.pth", model, cfg)
    assert load(path).transform.mean == (0.1, 0.2, 0.3)
    assert load(path, mean=(0.0, 0.0, 0.0)).transform.mean == (0.0, 0.0, 0.0)
    steps = dict(mean=[10.0, 20.0, 30.0], std=[51.0, 102.0, 204.0])
    path = save(
        tmp_path / "b.pth", model, dict(model=dict(backbone=backbone), data_preprocessor=steps)
    )
    transform = load(path).transform
    assert transform.bgr and transform.mean == pytest.approx([x / 255 for x in (30, 20, 10)])
    plain = load(save(tmp_path / "c.pth", model), num_heads=4, size=None).transform
    assert plain.mean == (0.485, 0.456, 0.406) and plain.size is None


def test_heads_that_nothing_tells_are_asked_for(tmp_path):
    path = save(tmp_path / "a.pth", shaken())
    with pytest.raises(UserError, match=r"num_heads = None.*a\.pth.*Fix: .*num_heads=4"):
        load(path)
    with pytest.raises(UserError, match="num_heads = 5: expected a divisor of the width 24"):
        load(path, num_heads=5)
    with pytest.raises(UserError, match="num_heads = 0"):
        load(path, num_heads=0)


def test_sizes_of_the_papers_have_their_heads(tmp_path):
    model = ViT("tiny", img_size=32, patch_size=8, pos_embed="learned")
    back = load(save(tmp_path / "a.pth", model))
    assert [block.attn.num_heads for block in back.layers] == [3] * 12


def test_a_stock_config_says_heads_and_epsilon(tmp_path):
    model = shaken(norm_eps=1e-3)
    stock = dict(type="mmpretrain.VisionTransformer", arch=WIDE, norm_cfg=dict(type="LN", eps=1e-3))
    path = save(tmp_path / "a.pth", model, dict(model=dict(backbone=stock)))
    assert_same_features(model, load(path))
    named = dict(type="VisionTransformer", arch="small")  # not of our small's sizes
    with pytest.raises(UserError, match="num_heads"):
        load(save(tmp_path / "b.pth", model, dict(model=dict(backbone=named))))


def test_positions_of_no_square_are_asked_for(tmp_path):
    model = shaken(img_size=(16, 40))
    path = save(tmp_path / "a.pth", model)
    with pytest.raises(UserError, match=r"img_size = None.*img_size=\(H, W\)"):
        load(path, num_heads=4)
    assert_same_features(model, load(path, num_heads=4, img_size=(16, 40)), (16, 40))


def test_options_replace_what_was_found(tmp_path):
    model = shaken()
    path = save(tmp_path / "a.pth", model)
    larger = load(path, num_heads=4, img_size=(48, 32), out_indices=(0, 1), window_size=0)
    assert larger.base_grid == (6, 4) and larger.transform.size == (48, 32)
    assert len(larger(torch.zeros(1, 3, 48, 32))) == 2
    assert load(path, num_heads=4, patch_size=4).base_grid == (4, 4)
    with pytest.raises(UserError, match="img_sise.*did you mean img_size"):
        load(path, num_heads=4, img_sise=32)
    with pytest.raises(UserError, match="every weight.*layers.0.attn.gamma1.weight"):
        load(path, num_heads=4, layer_scale=0.1)


class Payload:
    """Stands for code in a pickle."""


def test_what_is_refused(tmp_path):
    model = shaken()
    torch.save({"model": model.state_dict(), "args": Payload()}, tmp_path / "code.pth")
    with pytest.raises(UserError, match="Payload.*Fix: .*trust=True"):
        load(tmp_path / "code.pth", num_heads=4)
    assert_same_features(model, load(tmp_path / "code.pth", num_heads=4, trust=True))

    model.layers[0].attn.qkv.weight.data[0, 0] = math.nan
    with pytest.raises(UserError, match="NaN or infinity in layers.0.attn.qkv.weight"):
        load(save(tmp_path / "nan.pth", model), num_heads=4)
    with pytest.raises(UserError, match="nothing is there"):
        load(tmp_path / "nowhere")
    torch.save({"conv1.weight": torch.ones(2)}, tmp_path / "resnet.pth")
    with pytest.raises(UserError, match="a ViT of a known family"):
        load(tmp_path / "resnet.pth")
    torch.save(vit({"attn.q_norm.weight": (8,)}), tmp_path / "other.pth")
    with pytest.raises(UserError, match="q_norm"):
        load(tmp_path / "other.pth")
    state = vit(GAMMA | TABLE | {"attn.qkv.bias": (24,)})
    del state["blocks.0.mlp.fc1.weight"]
    torch.save(state, tmp_path / "half.pth")
    with pytest.raises(UserError, match="half.pth.*layers.0.ffn.layers.0.0.weight"):
        load(tmp_path / "half.pth")


def test_one_line_in_the_log_and_none_on_the_screen(tmp_path, caplog, capfd):
    path = save(tmp_path / "a.pth", shaken(), **{"decode_head.conv_seg.weight": torch.ones(2)})
    with caplog.at_level(logging.INFO):
        load(path, num_heads=4)
    (record,) = caplog.records
    assert record.levelname == "INFO" and str(path) in record.getMessage()
    assert capfd.readouterr() == ("", "")


def test_a_config_is_read_and_never_run(tmp_path, monkeypatch):
    monkeypatch.delenv("MIMSEG_RAN", raising=False)
    bad = "__import__('os').environ.__setitem__('MIMSEG_RAN', '1')"
    text = f"{bad}\na = {bad}\nb = dict(c=[dict(d=(1, -2.5))], e={{'f.g': None}})\n"
    text += f"h = dict(**{{'i': 1}})\nj = dict(k={bad})\nl = dict([('m', 1)])\n"
    assert parse_config(text) == {"b": {"c": [{"d": (1, -2.5)}], "e": {"f.g": None}}}
    assert parse_config("_base_ = ['a.py']\nmodel = dict(a=1)") == {}
    assert parse_config("no python (") == {} and parse_config("x = " + "[" * 5000) == {}
    model = shaken()
    checkpoint = torch.load(save(tmp_path / "a.pth", model))
    checkpoint["meta"]["cfg"] = f"model = dict(backbone=dict(type='mimseg.ViT', x={bad}))"
    torch.save(checkpoint, tmp_path / "a.pth")
    assert_same_features(model, load(tmp_path / "a.pth", num_heads=4))
    assert "MIMSEG_RAN" not in os.environ
