"""Windows and decomposed relative positions, against mmpretrain's ViTSAM and the plain forward."""

import pytest
import torch
from mmpretrain.models import ViTSAM

from mimseg.errors import UserError
from mimseg.layers import decomposed_position, tiled_attention
from mimseg.layers.window import from_windows, to_windows

DENSE = dict(with_cls_token=False, pos_embed="learned", final_norm=False)


def draw(model):
    for name, parameter in model.named_parameters():
        if "rel_pos" in name:
            torch.nn.init.normal_(parameter, std=0.3)
    return model


@pytest.mark.parametrize("largest_mask", [0, 1024])
@pytest.mark.parametrize("size, tiled", [((64, 64), ()), ((40, 56), ()), ((40, 56), ("cpu",))])
def test_same_maps_and_gradients_as_mmpretrains_vitsam(
    tiny_vit, monkeypatch, size, tiled, largest_mask
):
    """Windows of 3 on an 8x8 grid need padding. All four ways to add the terms."""
    monkeypatch.setattr(decomposed_position, "_MASK_TOKENS", largest_mask)
    monkeypatch.setattr(decomposed_position, "_TILED", tiled)
    monkeypatch.setattr(tiled_attention, "_TILE", 200)  # so that there are several
    arch = dict(embed_dims=48, num_layers=4, num_heads=4, feedforward_channels=96)
    model = tiny_vit(
        arch=arch,
        img_size=64,
        window_size=3,
        global_blocks=(1, 3),
        decomposed_rel_pos=True,
        out_indices=(0, 1, 2, 3),
        **DENSE,
    )
    reference = ViTSAM(
        arch=arch | dict(global_attn_indexes=[1, 3]),
        img_size=64,
        patch_size=8,
        window_size=3,
        out_channels=0,
        out_indices=[0, 1, 2, 3],
        norm_cfg=dict(type="LN", eps=1e-6),
    )
    draw(model)
    state = {k: v.clone() for k, v in model.state_dict().items()}
    state["pos_embed"] = state["pos_embed"].reshape(1, 8, 8, 48)
    reference.load_state_dict(state, strict=True)
    images = torch.randn(2, 3, *size)
    ours, theirs = model(images), reference(images)
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, atol=2e-5, rtol=1e-4)
    sum(x.square().sum() for x in ours).backward()
    sum(x.square().sum() for x in theirs).backward()
    named = dict(reference.named_parameters())
    for name, parameter in model.named_parameters():
        if name != "pos_embed":
            other = named[name].grad
            scale = other.abs().max()
            torch.testing.assert_close(parameter.grad, other, atol=1e-4 * scale, rtol=0, msg=name)


def test_a_window_that_covers_the_image_changes_nothing(tiny_vit):
    plain = tiny_vit(**DENSE)
    windowed = tiny_vit(**DENSE, window_size=4, global_blocks=())
    windowed.load_state_dict(plain.state_dict())
    images = torch.randn(2, 3, 32, 32)
    torch.testing.assert_close(windowed(images)[0], plain(images)[0])


def test_windows_there_and_back():
    x = torch.arange(2 * 5 * 7).reshape(2, 35, 1).float()
    windows = to_windows(x, (5, 7), 3)
    assert windows.shape == (2 * 2 * 3, 9, 1)
    assert windows[1, :, 0].tolist() == [3, 4, 5, 10, 11, 12, 17, 18, 19]
    assert windows[2, :, 0].tolist() == [6, 0, 0, 13, 0, 0, 20, 0, 0]
    assert torch.equal(from_windows(windows, (5, 7), 3), x)


def test_drop_path_drops_whole_images(tiny_vit):
    model = tiny_vit(**DENSE, window_size=2, global_blocks=(), drop_path_rate=0.5).train()
    block = model.layers[2]
    x = torch.randn(64, 16, 48)
    block.ffn.drop_path.rate = 0.0
    normed = to_windows(block.ln1(x), (4, 4), 2)
    branch = block.attn.attend(*block.attn.split_heads(normed), None, (2, 2))
    branch = from_windows(branch, (4, 4), 2)
    torch.manual_seed(0)
    kept = block.attn.drop_path(torch.ones(64, 1, 1)).flatten()
    torch.manual_seed(0)
    middle = x + branch * kept[:, None, None]
    torch.testing.assert_close(block(x, None, (4, 4)), middle + block.ffn(block.ln2(middle)))
    assert {0.0, 2.0} == set(kept.tolist())


def test_activation_checkpointing_gives_the_same_gradients(tiny_vit):
    options = dict(DENSE, window_size=2, decomposed_rel_pos=True, global_blocks=(2,))
    images, found = torch.randn(1, 3, 40, 32), []
    state = draw(tiny_vit(**options)).state_dict()
    for recompute in (False, True):
        model = tiny_vit(**options, activation_checkpointing=recompute).train()
        model.load_state_dict(state)
        model(images)[0].square().sum().backward()
        found.append([p.grad.clone() for p in model.parameters()])
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("recompute", [False, True])
def test_activation_checkpointing_makes_a_bias_of_every_pair_anew(tiny_vit, monkeypatch, recompute):
    """Made outside the recomputed part, it would be kept for every block."""
    options = dict(rel_pos_bias="per_block", activation_checkpointing=recompute)
    model, made = tiny_vit(**options).train(), []
    bias = model.relative_bias
    monkeypatch.setattr(model, "relative_bias", lambda *args: made.append(args) or bias(*args))
    out = model(torch.randn(1, 3, 32, 32))[0].square().sum()
    assert len(made) == 3
    out.backward()
    assert len(made) == (6 if recompute else 3)
    assert all(b.attn.relative_position_bias_table.grad.any() for b in model.layers)


@pytest.mark.parametrize("tile, keep", [(10**6, True), (40, True), (40, False), (1, False)])
def test_tiles_give_the_gradients_of_the_whole(monkeypatch, tile, keep):
    monkeypatch.setattr(tiled_attention, "_TILE", tile)
    shapes = [(3, 6, 4)] * 3 + [(3, 6, 2), (3, 6, 3)]
    parts = [torch.randn(shape, dtype=torch.double, requires_grad=True) for shape in shapes]
    attend = tiled_attention.TiledAttention.apply
    assert torch.autograd.gradcheck(lambda *given: attend(*given, keep), parts, fast_mode=True)
    q, k, v, rows, columns = parts
    scores = q @ k.mT + rows.repeat_interleave(3, dim=2) + columns.repeat(1, 1, 2)
    torch.testing.assert_close(attend(*parts, keep), scores.softmax(-1) @ v)


@pytest.mark.parametrize("largest_mask", [0, 1024])
def test_tiles_serve_autocast(tiny_vit, monkeypatch, largest_mask):
    monkeypatch.setattr(decomposed_position, "_MASK_TOKENS", largest_mask)
    model = draw(tiny_vit(**DENSE, img_size=64, decomposed_rel_pos=True))
    images, found = torch.randn(2, 3, 64, 64), []
    for enabled in (False, True):
        model.zero_grad()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=enabled):
            out = model(images)[0]
        out.float().square().mean().backward()
        found.append([p.grad.clone() for p in model.parameters()])
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(b, a, atol=float(0.1 * a.abs().max()), rtol=0)


def test_tables_are_resized_when_loaded(tiny_vit, tmp_path):
    source = draw(tiny_vit(**DENSE, decomposed_rel_pos=True))
    torch.save({"state_dict": source.state_dict()}, tmp_path / "a.pth")
    init = dict(type="Pretrained", checkpoint=str(tmp_path / "a.pth"))
    model = tiny_vit(**DENSE, decomposed_rel_pos=True, img_size=48, init_cfg=init)
    table = model.layers[0].attn.rel_pos_h
    assert table.shape == (11, 12)
    torch.testing.assert_close(table[5], source.layers[0].attn.rel_pos_h[3])  # the centre


@pytest.mark.parametrize(
    "options, words",
    [
        (dict(window_size=2), "with_cls_token=False"),
        (dict(decomposed_rel_pos=True), "decomposed_rel_pos.*with_cls_token=False"),
        (dict(DENSE, window_size=2, rel_pos_bias="shared"), "rel_pos_bias='none'"),
        (dict(DENSE, window_size=2, global_blocks=(3,)), "global_blocks = .3.*blocks 0 to 2"),
    ],
)
def test_what_cannot_be_is_told(tiny_vit, options, words):
    with pytest.raises(UserError, match=words):
        tiny_vit(**options)
