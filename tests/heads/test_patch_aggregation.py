"""Two predictions a position, the second through the CLS token and an early block's patches."""

import pytest
import torch

from mimseg.errors import UserError
from mimseg.heads.base import Setting
from mimseg.registry import MODELS


def build(**options):
    cfg = dict(in_channels=48, out_channels=5, in_layer=1, num_heads=4) | options
    head = MODELS.build(dict(type="mimseg.PatchAggregationHead") | cfg)
    head.init_weights()
    return head


@pytest.fixture
def student(tiny_vit):
    def make(**options):
        options = dict(mask_mode="token", final_norm=False) | options
        model = tiny_vit(**options)
        for name, parameter in model.named_parameters():
            if "relative_position_bias_table" in name:
                torch.nn.init.normal_(parameter)
        return model

    return make


@pytest.mark.parametrize("rel_pos_bias", ["none", "shared"])
def test_main_and_aggregated_prediction(student, rel_pos_bias):
    model, head = student(rel_pos_bias=rel_pos_bias), build()
    mask = torch.zeros(2, 16, dtype=torch.bool)
    mask[:, [3, 7]] = True
    seen = model.encode(torch.randn(2, 3, 32, 32), mask, head.student_needs)
    assert (seen.attention_bias is None) == (rel_pos_bias == "none")
    positions = torch.tensor([4, 17 + 8])
    out = head(seen, positions)

    x = torch.cat([seen.cls[:, None], seen.taps[1]], 1)
    for block in head.layers:
        x = block(x, seen.attention_bias)
    main = torch.stack([seen.tokens[0, 3], seen.tokens[1, 7]])
    for k, tokens in enumerate([main, torch.stack([x[0, 4], x[1, 8]])]):
        torch.testing.assert_close(out[:, k], head.projection(head.norm(tokens)))

    model.zero_grad()
    out[:, 1].sum().backward()
    assert model.layers[2].ffn.layers[1].weight.grad.abs().sum() > 0  # through the CLS token alone
    assert all(p.grad.abs().sum() > 0 for p in head.parameters())
    if rel_pos_bias == "shared":
        plain = seen.__class__(**{**vars(seen), "attention_bias": None})
        assert not torch.allclose(head(plain, positions)[:, 1], out[:, 1])


def test_initialisation():
    head = build(in_channels=192, num_heads=3, in_layer=8, layer_scale=0.25)
    torch.nn.init.zeros_(head.layers[1].attn.gamma1.weight)
    head.init_weights()
    for number, block in ((10, head.layers[0]), (11, head.layers[1])):
        std = 0.02 / (2 * number) ** 0.5
        assert block.attn.proj.weight.std().item() == pytest.approx(std, rel=0.05)
        assert block.ffn.layers[1].weight.std().item() == pytest.approx(std, rel=0.05)
        assert block.attn.qkv.weight.std().item() == pytest.approx(0.02, rel=0.05)
        assert block.attn.gamma1.weight.eq(0.25).all()


def test_a_drop_path_rate_for_each_block():
    head = build(drop_path_rate=[0.1, 0.3])
    assert [layer.attn.drop_path.rate for layer in head.layers] == [0.1, 0.3]
    head = build(drop_path_rate=0.2, depth=3)
    assert [layer.ffn.drop_path.rate for layer in head.layers] == [0.2] * 3


@pytest.mark.parametrize(
    "options, key",
    [(dict(in_layer=-1), "head.in_layer"), (dict(drop_path_rate=[0.1]), "head.drop_path_rate")],
)
def test_bad_options_are_told(options, key):
    with pytest.raises(UserError, match=key):
        build(**options)


@pytest.mark.parametrize(
    "vit, options, key",
    [
        (dict(mask_mode="drop"), {}, "backbone.mask_mode"),
        (dict(final_norm=True), {}, "backbone.final_norm"),
        (dict(), dict(in_layer=2), "head.in_layer"),
        (dict(rel_pos_bias="shared"), dict(num_heads=6), "head.num_heads"),
    ],
)
def test_a_student_that_does_not_fit_is_told(student, vit, options, key):
    with pytest.raises(UserError, match=key):
        build(**options).check(Setting(student(**vit), "masked", masked=True))
    build().check(Setting(student(rel_pos_bias="shared"), "masked", masked=True))
