"""The ViT against mmpretrain's, and its masks, taps, sizes and weights."""

import pytest
import torch
from mmpretrain.models import VisionTransformer

from mimseg.errors import UserError
from mimseg.outputs import Needs
from mimseg.registry import MODELS


@pytest.mark.parametrize("layer_scale", [0.0, 0.1])
def test_same_features_as_mmpretrain(tiny_vit, layer_scale):
    model = tiny_vit(out_indices=(0, 2), layer_scale=layer_scale, pos_embed="learned")
    reference = VisionTransformer(
        arch=dict(embed_dims=48, num_layers=3, num_heads=4, feedforward_channels=96),
        img_size=32,
        patch_size=8,
        out_indices=[0, 2],
        out_type="featmap",
        norm_cfg=dict(type="LN", eps=1e-6),
        layer_scale_init_value=layer_scale,
    )
    assert set(model.state_dict()) == set(reference.state_dict())
    reference.load_state_dict(model.state_dict())
    for size in [(32, 32), (48, 40)]:
        images = torch.randn(2, 3, *size)
        for ours, theirs in zip(model(images), reference(images), strict=True):
            torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)


def test_dropping_equals_running_the_visible_patches_alone(tiny_vit):
    model, images = tiny_vit().eval(), torch.randn(2, 3, 32, 32)
    mask = torch.zeros(2, 16, dtype=torch.bool)
    mask[0, 3:15], mask[1, :12] = True, True
    out = model.encode(images, mask)
    assert out.kept.tolist() == [[0, 1, 2, 15], [12, 13, 14, 15]]
    tokens = model.patch_embed(images)[0] + model.pos_embed[:, 1:]
    for row in range(2):
        x = torch.cat([model.cls_token + model.pos_embed[:, :1], tokens[row : row + 1]], 1)
        x = x[:, [0, *(out.kept[row] + 1).tolist()]]
        for layer in model.layers:
            x = layer(x)
        torch.testing.assert_close(model.ln1(x)[0, 1:], out.tokens[row])
        torch.testing.assert_close(model.ln1(x)[0, 0], out.cls[row])


def test_a_mask_token_hides_what_is_masked(tiny_vit):
    model, images = tiny_vit(mask_mode="token").eval(), torch.randn(1, 3, 32, 32)
    mask = torch.zeros(1, 16, dtype=torch.bool)
    mask[0, 5] = True
    other = images.clone()
    other[:, :, 8:16, 8:16] = 9.0  # patch 5
    torch.testing.assert_close(model.encode(images, mask).tokens, model.encode(other, mask).tokens)
    assert not torch.allclose(model.encode(images).tokens, model.encode(other).tokens)


def test_several_masks_an_image(tiny_vit):
    model, images = tiny_vit().eval(), torch.randn(2, 3, 32, 32)
    mask = torch.rand(6, 16).argsort(1) < 12
    out = model.encode(images, mask)
    for row in range(6):
        alone = model.encode(images[row // 3 : row // 3 + 1], mask[row : row + 1])
        torch.testing.assert_close(out.tokens[row], alone.tokens[0], atol=1e-5, rtol=1e-5)


def test_unequal_masks_cannot_be_dropped(tiny_vit):
    mask = torch.zeros(2, 16, dtype=torch.bool)
    mask[0, 0] = True
    with pytest.raises(ValueError, match="equal counts"):
        tiny_vit().encode(torch.randn(2, 3, 32, 32), mask)


def test_taps_stop_at_the_last_block_needed(tiny_vit):
    model, images = tiny_vit().eval(), torch.randn(2, 3, 32, 32)
    called = []
    for index, layer in enumerate(model.layers):
        layer.register_forward_hook(lambda *_, i=index: called.append(i))
    grid, taps, _ = model.tap(images, Needs(layers=frozenset({0, -2})))
    assert grid == (4, 4) and called == [0, 1]
    x = taps[-2]
    for layer in list(model.layers)[2:]:
        x = layer(x)
    torch.testing.assert_close(model.ln1(x)[:, 1:], model.encode(images).tokens)
    _, _, qkv = model.tap(images, Needs(qkv=frozenset({-1})))
    q, k, v = qkv[-1]
    assert q.shape == k.shape == v.shape == (2, 4, 17, 12)
    full = torch.nn.functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
    _, taps, _ = model.tap(images, Needs(layers=frozenset({1, 2})))
    last = model.layers[2]
    x = taps[1] + last.attn.proj(full)
    torch.testing.assert_close(taps[2], x + last.ffn(last.ln2(x)), atol=1e-5, rtol=1e-5)


def test_any_size_is_padded_with_zeros(tiny_vit):
    model, images = tiny_vit().eval(), torch.randn(1, 3, 29, 35)
    padded = torch.zeros(1, 3, 32, 40)
    padded[:, :, :29, :35] = images
    (ours,), (reference,) = model(images), model(padded)
    assert ours.shape == (1, 48, 4, 5)
    torch.testing.assert_close(ours, reference)


def test_position_embedding_is_resized_on_load(tiny_vit):
    small, large = tiny_vit(pos_embed="learned"), tiny_vit(pos_embed="learned", img_size=64)
    large.load_state_dict(small.state_dict())
    table = small.pos_embed[:, 1:].reshape(1, 4, 4, 48).permute(0, 3, 1, 2)
    table = torch.nn.functional.interpolate(table, size=(8, 8), mode="bicubic")
    torch.testing.assert_close(large.pos_embed[:, 1:], table.flatten(2).transpose(1, 2))
    torch.testing.assert_close(large.pos_embed[:, :1], small.pos_embed[:, :1])


def test_a_resized_table_follows_new_weights(tiny_vit):
    """The cache of resized embeddings must not outlive a load."""
    model, images = tiny_vit(), torch.randn(1, 3, 64, 64)
    before = model(images)[0]
    with torch.no_grad():
        model.pos_embed.mul_(3)
    assert not torch.allclose(before, model(images)[0])


@pytest.mark.parametrize("pos_embed", ["learned", "sincos"])
def test_gradients_reach_what_should_learn(tiny_vit, pos_embed):
    model = tiny_vit(pos_embed=pos_embed, activation_checkpointing=True).train()
    model(torch.randn(1, 3, 48, 48))[0].square().sum().backward()
    for name, parameter in model.named_parameters():
        if name != "pos_embed" or pos_embed == "learned":
            assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name
    assert model.pos_embed.requires_grad == (pos_embed == "learned")


def test_drop_path_drops_whole_samples(tiny_vit):
    model = tiny_vit(drop_path_rate=0.5).train()
    assert [layer.ffn.drop_path.rate for layer in model.layers] == [0.0, 0.25, 0.5]
    drop, x = model.layers[2].ffn.drop_path, torch.ones(4000, 2)
    out = drop(x)
    assert set(out.flatten().tolist()) == {0.0, 2.0}
    assert torch.equal(out[:, 0], out[:, 1])
    assert out.mean().item() == pytest.approx(1.0, abs=0.1)
    assert torch.equal(drop.eval()(x), x)


def test_initialisation_redraws_everything(tiny_vit):
    model = tiny_vit(mask_mode="token", layer_scale=0.1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(7.0)
    model.init_weights()
    for name, parameter in model.named_parameters():
        assert not (parameter == 7.0).any(), name


@pytest.mark.parametrize(("arch", "millions"), [("base", 86), ("large", 304), ("huge", 632)])
def test_published_sizes(arch, millions):
    with torch.device("meta"):
        model = MODELS.build(
            dict(type="mimseg.ViT", arch=arch, patch_size=14 if arch == "huge" else 16)
        )
    count = sum(p.numel() for p in model.parameters()) / 1e6
    assert count == pytest.approx(millions, rel=0.01)


@pytest.mark.parametrize(
    ("options", "key"),
    [
        (dict(arch="enormous"), "backbone.arch"),
        (dict(mask_mode="hide"), "backbone.mask_mode"),
        (dict(pos_embed="rotary"), "backbone.pos_embed"),
        (dict(out_indices=(5,)), "layer"),
        (dict(out_indices=(-4,)), "layer"),  # of three blocks
        (dict(out_type="map"), "backbone.out_type"),
        (dict(out_type="cls_token", with_cls_token=False), "backbone.out_type"),
    ],
)
def test_bad_options_name_the_key(tiny_vit, options, key):
    with pytest.raises(UserError, match=key):
        tiny_vit(**options)


def test_average_of_the_patches_has_a_norm_of_its_own(tiny_vit):
    """MAE's global pooling: mean over patches, CLS left out, then a norm."""
    vit = tiny_vit(out_type="avg_featmap", final_norm=False)
    images = torch.randn(2, 3, 32, 32)
    maps = tiny_vit(final_norm=False)
    maps.load_state_dict(vit.state_dict(), strict=False)
    expected = torch.nn.functional.layer_norm(
        maps(images)[0].mean((2, 3)), (48,), vit.ln2.weight, vit.ln2.bias, eps=1e-6
    )
    torch.testing.assert_close(vit(images)[0], expected, atol=1e-5, rtol=1e-5)
    assert vit.get_layer_depth("backbone.ln2.weight", "backbone.") == (4, 5)


def test_frozen_trains_nothing_and_stays_in_eval_mode(tiny_vit):
    vit = tiny_vit(frozen=True, drop_path_rate=0.9).train()
    assert not any(module.training for module in vit.modules())
    assert not any(parameter.requires_grad for parameter in vit.parameters())
    images = torch.randn(2, 3, 32, 32)
    first, second = vit(images)[0], vit(images)[0]
    assert torch.equal(first, second) and not first.requires_grad
