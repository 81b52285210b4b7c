"""Tokenizers: mmpretrain's own ids, weights that are loaded late, and errors that help."""

import pytest
import torch
from mmengine.registry import DefaultScope, init_default_scope

from mimseg.errors import UserError
from mimseg.outputs import Needs
from mimseg.registry import MODELS

IDS = Needs(ids=True)
ARCH = dict(embed_dims=32, num_layers=2, num_heads=4, feedforward_channels=64)
DALLE = dict(type="mmpretrain.DALL-E", n_hid=8, n_blk_per_group=1, vocab_size=40)
VQKD = dict(
    type="mmpretrain.VQKD",
    encoder_config=dict(arch=ARCH, img_size=32, patch_size=8),
    num_embed=24,
    embed_dims=8,
)
KINDS = pytest.mark.parametrize("cfg", [DALLE, VQKD], ids=["dalle", "vqkd"])


class Student:
    base_grid = (4, 4)


def teacher(cfg, weights="random", load=True, **options):
    net = MODELS.build(
        dict(type="mimseg.TokenizerTeacher", tokenizer=cfg, weights=weights) | options
    )
    net.bind(Student())
    if load:
        net.load(Student())
    return net.requires_grad_(False).eval()


@KINDS
def test_ids_equal_mmpretrain(cfg):
    net = teacher(cfg)
    images = torch.rand(5, 3, 32, 32)
    out = net(images, IDS)
    assert out.grid == (4, 4) and out.ids.shape == (5, 16) and out.ids.dtype == torch.int64
    assert out.ids.unique().numel() > 3 and not out.tokens
    if cfg is DALLE:
        expected = net.tokenizer(0.8 * images + 0.1).argmax(1).flatten(1)  # DALL-E's map_pixels
    else:
        expected = net.tokenizer.get_tokens(2 * images - 1)["token"]
    assert torch.equal(out.ids, expected)
    assert net.out_channels == (40 if cfg is DALLE else 24)


@KINDS
def test_grids_that_are_not_square(cfg):
    """mmpretrain's VQKD takes the root of the token count for both sides."""
    net = teacher(cfg)
    images = torch.rand(2, 3, 32, 48)
    out = net(images, IDS)
    assert out.grid == (4, 6) and out.ids.shape == (2, 24)
    if cfg is DALLE:
        assert torch.equal(out.ids, net.tokenizer(0.8 * images + 0.1).argmax(1).flatten(1))
    else:
        with pytest.raises(Exception, match="rearrange|einops|shape"):
            net.tokenizer.get_tokens(2 * images - 1)


def test_vqkd_finds_the_nearest_code():
    net = teacher(VQKD)
    images = torch.rand(2, 3, 32, 32)
    features = net.tokenizer.encoder(2 * images - 1)[0].flatten(2).transpose(1, 2)
    z = torch.nn.functional.normalize(net.tokenizer.encode_task_layer(features), dim=-1)
    codes = net.tokenizer.quantize.embedding.weight
    expected = [[(codes - token).norm(dim=1).argmin().item() for token in row] for row in z]
    assert net(images, IDS).ids.tolist() == expected


def test_running_leaves_the_tokenizer_as_it_is():
    """mmpretrain's lookup updates the codes' use in every forward pass, in eval mode too."""
    net = teacher(VQKD)
    before = {key: value.clone() for key, value in net.state_dict().items()}
    net(torch.rand(2, 3, 32, 32), IDS)
    assert all(torch.equal(before[key], value) for key, value in net.state_dict().items())
    net.tokenizer.get_tokens(torch.rand(2, 3, 32, 32))
    assert not torch.equal(
        before["tokenizer.quantize.cluster_size"], net.tokenizer.quantize.cluster_size
    )


@KINDS
def test_random_weights_are_drawn_on_loading_and_saved(cfg):
    nets = [teacher(cfg, load=False) for _ in range(2)]
    for net in nets:
        torch.manual_seed(5)
        net.load(Student())
    first, second = (net.state_dict() for net in nets)
    assert all(torch.equal(first[key], second[key]) for key in first)
    assert nets[0].saved and nets[0].fingerprint() is None
    assert all(
        p.abs().sum() > 0 for n, p in nets[0].named_parameters() if not n.endswith(("b", "bias"))
    )
    third = teacher(cfg)
    images = torch.rand(2, 3, 32, 32)
    assert not torch.equal(third(images, IDS).ids, nets[0](images, IDS).ids)
    third.load_state_dict(first)
    assert torch.equal(third(images, IDS).ids, nets[0](images, IDS).ids)


@KINDS
@pytest.mark.parametrize("prefix", ["", "target_generator."])
def test_weights_from_a_file(cfg, prefix, tmp_path):
    source, images = teacher(cfg), torch.rand(2, 3, 32, 32)
    lacking = ("quantize.cluster_size", "quantize.embedding.initted")
    state = {prefix + k: v for k, v in source.tokenizer.state_dict().items() if k not in lacking}
    torch.save({"state_dict": state | {"backbone.cls_token": torch.zeros(3)}}, tmp_path / "t.pth")
    net = teacher(cfg, str(tmp_path / "t.pth"))
    assert torch.equal(net(images, IDS).ids, source(images, IDS).ids)
    assert not net.saved and len(net.fingerprint()) == 64


def test_bad_files_are_named(tmp_path):
    state = teacher(VQKD).tokenizer.state_dict()
    path = tmp_path / "t.pth"
    with pytest.raises(UserError, match="teacher.weights.*t.pth.*existing checkpoint"):
        teacher(VQKD, str(path))
    del state["encoder.layers.1.attn.qkv.weight"]
    torch.save(state, path)
    with pytest.raises(UserError, match="encoder.layers.1.attn.qkv.weight"):
        teacher(VQKD, str(path))
    torch.save(teacher(VQKD | dict(num_embed=25)).tokenizer.state_dict(), path)
    with pytest.raises(UserError, match="shapes.*quantize.*teacher.tokenizer"):
        teacher(VQKD, str(path))
    torch.save(teacher(DALLE).tokenizer.state_dict(), path)
    with pytest.raises(UserError, match="tensors of VQKD"):
        teacher(VQKD, str(path))


def test_an_address_is_read_on_loading_and_not_before(monkeypatch, tmp_path):
    asked = []

    def refuse(address, *_, **__):
        asked.append(address)
        raise OSError("no network")

    monkeypatch.setattr(torch.hub, "download_url_to_file", refuse)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    net = teacher(DALLE, "https://example.org/dalle.pth", load=False)
    assert not asked
    with pytest.raises(UserError, match="no network.*teacher.weights to its path"):
        net.load(Student())
    assert asked == ["https://example.org/dalle.pth"]
    source = teacher(DALLE)
    monkeypatch.setattr(
        torch.hub,
        "download_url_to_file",
        lambda address, path, **_: torch.save(source.tokenizer.state_dict(), path),
    )
    net.load(Student())
    images = torch.rand(1, 3, 32, 32)
    assert torch.equal(net(images, IDS).ids, source(images, IDS).ids)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(tokenizer=dict(type="mmpretrain.HOGGenerator")), "tokenizer.type.*DALL-E.*VQKD"),
        (dict(weights=None), "teacher.weights"),
        (dict(tokenizer=DALLE | dict(init_cfg=dict(type="Pretrained"))), "init_cfg.*weights=FILE"),
        (dict(input_size=64), r"input_size.*\(4, 4\).*teacher.input_size=32"),
        (dict(tokenizer=VQKD, input_size=64), r"input_size.*teacher.input_size=32"),
    ],
)
def test_bad_settings_are_named(options, message):
    cfg = dict(tokenizer=DALLE, weights="random") | options
    with pytest.raises(UserError, match=message):
        teacher(cfg.pop("tokenizer"), load=False, **cfg)


def test_tokens_asked_of_a_tokenizer():
    with pytest.raises(UserError, match="ids=True"):
        teacher(DALLE).check("teacher", Needs(layers=frozenset({-1})))


def test_built_under_another_scope_and_the_config_is_left_alone():
    init_default_scope("mmseg")
    cfg = {**VQKD, "encoder_config": dict(VQKD["encoder_config"], out_indices=[-1])}
    net = teacher(cfg)
    assert cfg["encoder_config"]["out_indices"] == [-1]
    assert net(torch.rand(1, 3, 32, 32), IDS).ids.shape == (1, 16)
    DefaultScope._instance_dict.clear()


def test_the_algorithm_hands_ids_on(tiny_mim, views):
    """DALL-E's view has half the side of BEiT's patches: 16 px a patch, 8 px a token."""
    model = tiny_mim(
        backbone=dict(type="mimseg.ViT", arch=ARCH, img_size=64, patch_size=16),
        teacher=dict(
            type="mimseg.TokenizerTeacher", tokenizer=DALLE, weights="random", input_size=32
        ),
        normalization=dict(type="mimseg.NoNormalization", ids=True),
    )
    images = torch.rand(2, 3, 64, 64)
    objective, net = model.objectives["loss"], model.bank["teacher"]
    out = model.bank.run({"teacher": images}, {"teacher": objective.teacher_needs})["teacher"]
    target = objective.normalization(out)
    assert target.shape == (2, 17) and target[:, 0].eq(-1).all()
    small = torch.nn.functional.interpolate(images, (32, 32), mode="bicubic", antialias=True)
    assert torch.equal(target[:, 1:], net(small.clamp(0, 1), IDS).ids)
    saved = [key for key in model.state_dict() if key.startswith("teachers.teacher.tokenizer.")]
    assert len(saved) == len(net.tokenizer.state_dict())
    assert objective.head.projection.out_features == 40
    assert not any(p.requires_grad for p in net.parameters())
