"""OpenCLIPTeacher: layers, outputs, sizes, and what it refuses to load."""

import hashlib
from pathlib import Path

import open_clip
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from mimseg.checkpoints import clip
from mimseg.errors import UserError
from mimseg.outputs import Needs
from mimseg.registry import MODELS

VISION = dict(image_size=32, patch_size=8, width=32, layers=3, head_width=8)
CONFIG = dict(embed_dim=20, vision_cfg=VISION, quick_gelu=True)


def build(model=CONFIG, weights="random", load=True, **options):
    cfg = dict(type="mimseg.OpenCLIPTeacher", model=model, weights=weights, **options)
    teacher = MODELS.build(cfg).eval()
    if load:
        teacher.load(None)
    return teacher


def reference(net, images):
    """Every block's output, and the attention of the last one, straight from the modules."""
    x = net.conv1(images).flatten(2).transpose(1, 2)
    cls = net.class_embedding.expand(x.shape[0], 1, -1)
    x = net.ln_pre(torch.cat([cls, x], dim=1) + net.positional_embedding)
    outs = []
    for block in net.transformer.resblocks:
        y = block.ln_1(x)
        found, weights = block.attn(y, y, y, need_weights=True)
        x = x + found
        x = x + block.mlp(block.ln_2(x))
        outs.append(x)
    return outs, weights


@torch.no_grad()
def test_layers_attention_and_outputs():
    images = torch.randn(2, 3, 32, 32)
    for output in ("tokens", "post", "proj"):
        teacher = build(output=output)
        net = teacher.net
        outs, weights = reference(net, images)
        found = teacher.targets(images, Needs(layers=frozenset({0, -1}), attention=True))
        assert found.grid == (4, 4) and set(found.tokens) == {0, -1}
        for layer in (0, -1):
            x = outs[layer]
            x = x if output == "tokens" else net.ln_post(x)
            x = x @ net.proj if output == "proj" else x
            assert x.shape[2] == teacher.out_channels
            torch.testing.assert_close(found.sequence(layer), x)
        torch.testing.assert_close(found.attention, weights[:, 0, 1:])


@torch.no_grad()
def test_qkv_rebuilds_the_block():
    teacher, images = build(), torch.randn(2, 3, 32, 32)
    block = teacher.net.transformer.resblocks[1]
    found = teacher.targets(images, Needs(layers=frozenset({0, 1}), qkv=frozenset({1})))
    q, k, v = found.qkv[1]
    assert q.shape == (2, 4, 17, 8)
    x = nn.functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
    x = found.sequence(0) + block.attn.out_proj(x)
    torch.testing.assert_close(x + block.mlp(block.ln_2(x)), found.sequence(1))


def test_blocks_after_the_last_needed_do_not_run():
    teacher = build()
    ran = []
    for index, block in enumerate(teacher.net.transformer.resblocks):
        block.register_forward_hook(lambda *_, index=index: ran.append(index))
    teacher.targets(torch.randn(1, 3, 32, 32), Needs(qkv=frozenset({1}), layers=frozenset({0})))
    assert ran == [0, 1]
    with pytest.raises(UserError, match=r"layers = 3: expected a block.*0 to 2"):
        teacher.targets(torch.randn(1, 3, 32, 32), Needs(layers=frozenset({3})))


@pytest.mark.parametrize("shifted", [False, True])
def test_a_file_is_loaded_resized_and_hashed(tmp_path, shifted):
    source = build()
    path = tmp_path / "clip.pth"
    whole = clip.to_theirs(source.net.state_dict()) | {"logit_scale": torch.ones([])}
    torch.save({"state_dict": {f"module.{k}": v for k, v in whole.items()}}, path)
    teacher = build(weights=str(path), input_size=48, shifted_sampling=shifted)
    state = teacher.net.state_dict()
    table = state.pop("positional_embedding")
    for name, value in state.items():
        assert torch.equal(value, source.net.state_dict()[name]), name
    old = source.net.positional_embedding.detach()
    maps = old[1:].T.reshape(1, -1, 4, 4)
    size = dict(scale_factor=6.1 / 4) if shifted else dict(size=(6, 6))
    maps = nn.functional.interpolate(maps, mode="bicubic", **size)
    torch.testing.assert_close(table, torch.cat([old[:1], maps[0].flatten(1).T]))
    assert teacher.fingerprint() == hashlib.sha256(path.read_bytes()).hexdigest()
    assert not teacher.saved and source.saved and source.fingerprint() is None
    images = torch.rand(2, 3, 32, 32)  # the view is resized for this network
    assert teacher(images, Needs(layers=frozenset({-1}))).grid == (6, 6)
    assert teacher.grid_of(32, 32) == (6, 6)


@torch.no_grad()
def test_hugging_face_names(tmp_path):
    source = build(output="proj")
    state, theirs = source.net.state_dict(), {}
    stem = "vision_model.encoder.layers"
    for name, value in state.items():
        if name.startswith("transformer."):
            _, _, index, rest = name.split(".", 3)
            for ours, other in (
                ("attn.out", "self_attn.out"),
                ("ln_", "layer_norm"),
                ("c_fc", "fc1"),
                ("c_proj", "fc2"),
            ):
                rest = rest.replace(ours, other)
            if "in_proj" in rest:
                kind = rest.rpartition("_")[2]
                for letter, part in zip("qkv", value.chunk(3), strict=True):
                    key = f"{stem}.{index}.self_attn.{letter}_proj.{kind}"
                    theirs[key] = part.clone()
            else:
                theirs[f"{stem}.{index}.{rest}"] = value
    embed = "vision_model.embeddings"
    theirs |= {
        f"{embed}.class_embedding": state["class_embedding"],
        f"{embed}.patch_embedding.weight": state["conv1.weight"],
        f"{embed}.position_embedding.weight": state["positional_embedding"],
        f"{embed}.position_ids": torch.arange(17)[None],
        "visual_projection.weight": state["proj"].T.contiguous(),
        "text_projection.weight": torch.zeros(2, 2),
    }
    for kind in ("weight", "bias"):
        theirs[f"vision_model.pre_layrnorm.{kind}"] = state[f"ln_pre.{kind}"]
        theirs[f"vision_model.post_layernorm.{kind}"] = state[f"ln_post.{kind}"]
    save_file(theirs, tmp_path / "model.safetensors")
    teacher = build(weights=str(tmp_path / "model.safetensors"), output="proj")
    for name, value in teacher.net.state_dict().items():
        assert torch.equal(value, state[name]), name


class Archive(nn.Module):
    """The form of OpenAI's files: a TorchScript program with sizes beside the weights."""

    def __init__(self, tower):
        super().__init__()
        self.visual = tower
        for name in ("input_resolution", "context_length", "vocab_size"):
            self.register_buffer(name, torch.tensor(1))

    def forward(self, x: torch.Tensor):
        return self.visual.conv1(x)


def test_openai_archives_need_trust_and_quick_gelu(tmp_path):
    source = build()
    path = str(tmp_path / "ViT.pt")
    torch.jit.trace(Archive(source.net), torch.randn(1, 3, 32, 32)).save(path)
    with pytest.raises(UserError, match=r"TorchScript.*teacher\.trust=True"):
        build(weights=path)
    plain = CONFIG | dict(quick_gelu=False)
    with pytest.raises(UserError, match="QuickGELU.*quick_gelu=True"):
        build(model=plain, weights=path, trust=True)
    teacher = build(weights=path, trust=True)
    assert torch.equal(teacher.net.proj, source.net.proj)


def test_hub_tags_are_checked_when_built(monkeypatch):
    with pytest.raises(UserError, match="'ViT-B-32'.*QuickGELU.*ViT-B-32-quickgelu"):
        build(model="ViT-B-32", weights="hub:openai", load=False)
    with pytest.raises(UserError, match="hub:openai"):
        build(model="ViT-B-32-quickgelu", weights="hub:none", load=False)
    with torch.device("meta"):
        teacher = build(model="ViT-B-32-quickgelu", weights="hub:openai", load=False)
    assert teacher.out_channels == 768 and not teacher.saved
    assert sum(p.numel() for p in teacher.net.parameters()) == pytest.approx(87.8e6, rel=0.01)

    def offline(*_, **__):
        raise ConnectionError("no route")

    monkeypatch.setattr(open_clip, "download_pretrained", offline)
    with pytest.raises(UserError, match=r"no route.*set teacher\.weights to its path"):
        teacher.load(None)


def test_what_does_not_fit_is_refused(tmp_path):
    state = build().net.state_dict()
    path = str(tmp_path / "w.safetensors")
    deeper = CONFIG | dict(vision_cfg=VISION | dict(layers=4))
    save_file(clip.to_theirs(state), path)
    with pytest.raises(UserError, match=r"all 56 tensors.*44 of them.*resblocks\.3"):
        build(model=deeper, weights=path)
    shallow = CONFIG | dict(vision_cfg=VISION | dict(layers=2))
    with pytest.raises(UserError, match=r"it has no transformer\.resblocks\.2"):
        build(model=shallow, weights=path)
    with pytest.raises(UserError, match=r"proj is \(32, 20\) there and \(32, 24\)"):
        build(model=CONFIG | dict(embed_dim=24), weights=path)
    save_file({"blocks.0.weight": torch.ones(2)}, path)
    with pytest.raises(UserError, match="0 of them"):
        build(weights=path)
    for options, message in (
        (dict(weights=None), r"teacher\.weights = None"),
        (dict(output="last"), r"teacher\.output = 'last'"),
        (dict(model="ViT-Q-1"), r"teacher\.model = 'ViT-Q-1'"),
        (dict(model="RN50"), "mimseg.TimmTeacher"),
        (dict(model=dict(embed_dim=1)), "embed_dim and vision_cfg"),
        (dict(input_size=48, img_size=32), r"teacher\.input_size = 48"),
        (dict(weights=str(Path(path).with_name("none.pth"))), r"teacher\.weights = .*existing"),
    ):
        with pytest.raises(UserError, match=message):
            build(**options)
    with pytest.raises(UserError, match=r"\(48, 48\).*\(32, 32\).*input_size=32.*img_size=48"):
        build().targets(torch.randn(1, 3, 48, 48), Needs(layers=frozenset({-1})))


def test_it_teaches_and_keeps_its_weights(tiny_mim, views, tmp_path):
    source = build()
    path = str(tmp_path / "clip.safetensors")
    save_file(source.net.state_dict(), path)
    teacher = dict(type="mimseg.OpenCLIPTeacher", model=CONFIG, weights=path, output="proj")
    model = tiny_mim(teacher=teacher)
    for name, value in model.bank["teacher"].net.state_dict().items():
        assert torch.equal(value, source.net.state_dict()[name]), name
    loss = model.loss(views)["loss"]
    loss.backward()
    assert loss.isfinite() and model.backbone.layers[0].attn.qkv.weight.grad.abs().sum() > 0
    assert not any("net." in name for name, _ in model.named_parameters())
    std = torch.tensor(open_clip.OPENAI_DATASET_STD)
    torch.testing.assert_close(model.bank["teacher"].std.flatten(), std)
