"""TimmTeacher: blocks and stages, sizes, and what it refuses to load."""

import hashlib

import huggingface_hub
import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import nn

from mimseg.errors import UserError
from mimseg.outputs import Needs
from mimseg.registry import MODELS

TINY = dict(img_size=64, embed_dim=48, depth=3, num_heads=4)
VIT = "vit_tiny_patch16_224"


def build(model=VIT, weights="random", load=True, **options):
    if model == VIT:
        options.setdefault("model_kwargs", TINY)
    cfg = dict(type="mimseg.TimmTeacher", model=model, weights=weights, **options)
    teacher = MODELS.build(cfg).eval()
    if load:
        teacher.load(None)
    return teacher


def tokens_of(net, images):
    """Every block's output, straight from the modules; the last one's scores as well."""
    seen = []
    for block in net.blocks:
        block.register_forward_hook(lambda *args: seen.append(args[2]))
    last = net.forward_features(images)
    return seen, last


def test_blocks_and_final_norm():
    images = torch.randn(2, 3, 64, 64)
    for final_norm in (False, True):
        teacher = build(final_norm=final_norm)
        seen, last = tokens_of(timm_copy(teacher), images)
        found = teacher.targets(images, Needs(layers=frozenset({0, -1, 2})))
        assert found.grid == (4, 4) and found.attention is None
        torch.testing.assert_close(found.sequence(0), seen[0])
        torch.testing.assert_close(found.sequence(-1), last if final_norm else seen[2])
        assert torch.equal(found.tokens[2], found.tokens[-1])
        assert found.tokens[0].shape == (2, 16, teacher.out_channels)


def timm_copy(teacher):
    net = timm.create_model(teacher.model, num_classes=0, **teacher.options).eval()
    net.load_state_dict(teacher.net.state_dict())
    return net


@torch.no_grad()
@pytest.mark.parametrize(
    "model, options",
    [
        (VIT, {}),
        (VIT, dict(qk_norm=True)),
        (VIT, dict(reg_tokens=3, dynamic_img_size=True)),
        ("deit_tiny_distilled_patch16_224", TINY),
        ("beit_base_patch16_224", TINY | dict(use_rel_pos_bias=True)),
    ],
)
def test_qkv_and_attention(model, options):
    """q, k, v give the block's attention back, and the CLS row of its scores is the attention."""
    teacher = build(model, model_kwargs=TINY | options)
    net, images = teacher.net, torch.randn(2, 3, 64, 64)
    for table in (p for n, p in net.named_parameters() if "relative" in n):
        nn.init.normal_(table)  # a bias that is left out must be seen
    found = teacher.targets(images, Needs(qkv=frozenset({-1, 0}), attention=True))
    q, k, v = found.qkv[-1]
    assert q.shape == (2, 4, 17, 12) and found.tokens == {}

    attn, caught = net.blocks[-1].attn, {}
    attn.fused_attn = False  # its own code then shows the scores
    attn.attn_drop.register_forward_pre_hook(lambda _, args: caught.update(scores=args[0]))
    attn.proj.register_forward_pre_hook(lambda _, args: caught.update(out=args[0]))
    net.forward_features(images)
    prefix = net.num_prefix_tokens
    scores = caught["scores"]
    torch.testing.assert_close(found.attention, scores.mean(1)[:, 0, prefix:])
    if prefix == 1:
        torch.testing.assert_close((scores @ v).transpose(1, 2).flatten(2), caught["out"])
    if not hasattr(attn, "relative_position_bias_table"):
        attention = (q[:, :, 0:1] @ k.transpose(-2, -1) * 12**-0.5)[:, :, 0].softmax(-1)
        kept = scores[:, :, 0, [0, *range(prefix, prefix + 16)]]
        torch.testing.assert_close(attention, kept / kept.sum(-1, keepdim=True))


def test_blocks_after_the_last_needed_do_not_run():
    teacher, ran = build(), []
    for index, block in enumerate(teacher.net.blocks):
        block.register_forward_hook(lambda *_, index=index: ran.append(index))
    images = torch.randn(1, 3, 64, 64)
    teacher.targets(images, Needs(qkv=frozenset({0}), layers=frozenset({1})))
    assert ran == [0, 1]
    with pytest.raises(UserError, match=r"layers = -4: expected a block.*-3 to -1"):
        teacher.targets(images, Needs(layers=frozenset({-4})))


@pytest.mark.parametrize("stage, stride, index", [(3, 16, -2), (None, 32, -1)])
def test_stages_of_a_cnn(stage, stride, index):
    teacher = build("resnet10t", stage=stage)
    images = torch.randn(2, 3, 80, 64)
    maps = timm_copy(teacher).forward_intermediates(images, intermediates_only=True)[index]
    found = teacher.targets(images, Needs(layers=frozenset({-1})))
    assert found.grid == teacher.grid_of(80, 64) == tuple(maps.shape[2:])
    assert found.grid == (-(-80 // stride), 64 // stride) and not found.cls
    torch.testing.assert_close(found.tokens[-1][:, 1], maps[:, :, 0, 1])
    assert teacher.out_channels == maps.shape[1]
    for needs in (Needs(layers=frozenset({2})), Needs(qkv=frozenset({-1}))):
        with pytest.raises(UserError, match="resnet10t"):
            teacher.targets(images, needs)


def test_resnet50_has_a_14_grid_at_two_stages():
    with torch.device("meta"):
        third = build("resnet50", "hub", stage=3, load=False)
        fourth = build("resnet50", "hub", stage=4, input_size=448, load=False)
    assert third.grid_of(224, 224) == fourth.grid_of(224, 224) == (14, 14)
    assert (third.out_channels, fourth.out_channels) == (1024, 2048)


def test_a_file_is_loaded_resized_and_hashed(tmp_path):
    source = build()
    state = source.net.state_dict()
    path = tmp_path / "vit.pth"
    noise = {f"student.backbone.{k}": torch.zeros_like(v) for k, v in state.items()}
    whole = noise | {f"teacher.backbone.{k}": v for k, v in state.items()}
    torch.save({"state_dict": whole | {"head.weight": torch.ones(2)}}, path)
    options = TINY | dict(img_size=96)
    teacher = build(weights=str(path), model_kwargs=options)
    for name, value in teacher.net.state_dict().items():
        assert name == "pos_embed" or torch.equal(value, state[name]), name
    assert teacher.net.pos_embed.shape[1] == 37 and teacher.net.pos_embed.abs().sum() > 0
    assert torch.equal(teacher.net.pos_embed[:, 0], state["pos_embed"][:, 0])
    assert teacher.fingerprint() == hashlib.sha256(path.read_bytes()).hexdigest()
    assert source.saved and not teacher.saved


def test_sizes():
    needs = Needs(layers=frozenset({-1}))
    options = {k: v for k, v in TINY.items() if k != "img_size"}
    view = torch.rand(1, 3, 64, 64)
    teacher = build(model_kwargs=options, input_size=96)
    assert teacher(view, needs).grid == teacher.grid_of(64, 64) == (6, 6)
    dynamic = build(model_kwargs=TINY | dict(dynamic_img_size=True))
    assert dynamic(torch.rand(1, 3, 32, 96), needs).grid == dynamic.grid_of(32, 96) == (2, 6)
    message = r"teacher\.input_size = \(96, 96\).*\(64, 64\).*input_size=64.*img_size=96"
    with pytest.raises(UserError, match=message):
        build().targets(torch.rand(1, 3, 96, 96), needs)
    with pytest.raises(UserError, match="input_size"):
        dynamic.grid_of(40, 64)


def test_random_is_drawn_when_loaded():
    teacher = build(load=False)
    built = {k: v.clone() for k, v in teacher.net.state_dict().items()}
    torch.manual_seed(3)
    teacher.load(None)
    first = teacher.net.state_dict()["blocks.0.attn.qkv.weight"].clone()
    assert not torch.equal(first, built["blocks.0.attn.qkv.weight"])
    torch.manual_seed(3)
    again = build(load=False)
    torch.manual_seed(3)
    again.load(None)
    assert torch.equal(first, again.net.state_dict()["blocks.0.attn.qkv.weight"])


def test_hub_without_network(monkeypatch, tmp_path):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    teacher = build("resnet10t", "hub", load=False)
    before = {k: v.clone() for k, v in teacher.net.state_dict().items()}
    with pytest.raises(UserError, match=r"resnet10t.*set teacher\.weights to its path"):
        teacher.load(None)
    assert all(torch.equal(v, before[k]) for k, v in teacher.net.state_dict().items())


def test_hub_weights_are_taken_whole(monkeypatch):
    whole = timm.create_model(VIT, **TINY)
    create = timm.create_model

    def served(model, pretrained=False, **kwargs):
        assert "num_classes" not in kwargs or not pretrained  # timm is strict with its classifier
        return whole if pretrained else create(model, **kwargs)

    monkeypatch.setattr(timm, "create_model", served)
    teacher = build(weights="hub")
    for name, value in teacher.net.state_dict().items():
        assert torch.equal(value, whole.state_dict()[name]), name
    first = teacher.fingerprint()
    with torch.no_grad():
        whole.norm.bias[0] += 1
    assert len(first) == 64 and build(weights="hub").fingerprint() != first


def test_what_does_not_fit_is_refused(tmp_path):
    path = str(tmp_path / "w.safetensors")
    save_file(build().net.state_dict(), path)
    with pytest.raises(UserError, match=r"all 54 tensors.*42 of them.*blocks\.3"):
        build(weights=path, model_kwargs=TINY | dict(depth=4))
    with pytest.raises(UserError, match=r"it has no blocks\.2"):
        build(weights=path, model_kwargs=TINY | dict(depth=2))
    with pytest.raises(UserError, match=r"cls_token is \(1, 1, 48\) there and \(1, 1, 96\)"):
        build(weights=path, model_kwargs=TINY | dict(embed_dim=96))
    with pytest.raises(UserError, match="0 of them|cannot convert"):
        build("resnet10t", path)
    torch.save({"model": build().net}, tmp_path / "code.pth")
    with pytest.raises(UserError, match=r"teacher\.trust=True"):
        build(weights=str(tmp_path / "code.pth"))
    for options, message in (
        (dict(weights=None), r"teacher\.weights = None"),
        (dict(model="vit_none"), r"teacher\.model = 'vit_none'"),
        (dict(model="hf-hub:a/b"), r"teacher\.model = 'hf-hub:a/b'"),
        (dict(model=f"{VIT}.no_tag", model_kwargs=TINY), r"patch16_224\.augreg"),
        (dict(model_kwargs=dict(widht=3)), "widht"),
        (dict(model_kwargs=dict(pretrained=True)), r"teacher\.weights says it"),
        (dict(stage=2), r"teacher\.stage = 2"),
        (dict(input_size=96), r"teacher\.input_size = 96.*img_size 64"),
        (dict(model="resnet10t", stage=6), r"teacher\.stage = 6: expected a stage.*1 to 4"),
        (dict(model="resnet10t", final_norm=True), r"teacher\.final_norm"),
        (dict(model="xcit_nano_12_p16_224"), r"teacher\.model = 'xcit"),
    ):
        with pytest.raises(UserError, match=message):
            build(**options, load=False)


def test_it_teaches_and_keeps_its_weights(tiny_mim, views, tmp_path):
    """mmengine's initialisation, which would draw a timm model's weights anew, does not see it."""
    source = build()
    path = str(tmp_path / "vit.safetensors")
    save_file(source.net.state_dict(), path)
    options = TINY | dict(img_size=32, patch_size=8)
    teacher = dict(type="mimseg.TimmTeacher", model=VIT, weights=path, model_kwargs=TINY)
    model = tiny_mim(teacher=teacher | dict(input_size=64))
    state = model.bank["teacher"].net.state_dict()
    assert state.keys() == source.net.state_dict().keys()
    for name, value in state.items():
        assert torch.equal(value, source.net.state_dict()[name]), name
    model.loss(views)["loss"].backward()
    for name, value in model.bank["teacher"].net.state_dict().items():
        assert torch.equal(value, source.net.state_dict()[name]), name
    assert model.backbone.layers[0].attn.qkv.weight.grad.abs().sum() > 0
    assert not any("net." in name for name, _ in model.named_parameters())
    saved = tiny_mim(teacher=dict(teacher, weights="random", model_kwargs=options))
    other = tiny_mim(teacher=dict(teacher, weights="random", model_kwargs=options))
    other.load_state_dict(saved.state_dict())
    for name, value in other.bank["teacher"].net.state_dict().items():
        assert torch.equal(value, saved.bank["teacher"].net.state_dict()[name]), name
