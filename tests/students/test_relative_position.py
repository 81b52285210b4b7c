"""Relative position bias, the last block's own heads, and early stops of the student."""

import pytest
import torch

from mimseg.errors import UserError
from mimseg.layers.relative_position import relative_position_index, resize_relative_table
from mimseg.outputs import Needs

TABLE = "relative_position_bias_table"


def tables(model):
    return [p for name, p in model.named_parameters() if name.endswith(TABLE)]


def draw(model):
    for table in tables(model):
        torch.nn.init.normal_(table)
    return model.eval()


def reference(model, images, bias):
    """The blocks with the softmax written out; bias(i, q, k) is block i's, positions CLS first."""
    x = model.patch_embed(images)[0]
    if model.pos_embed is not None:
        x = x + model.pos_embed[:, 1:]
    x = torch.cat([model.cls_token.expand(len(x), -1, -1), x], 1)
    for i, block in enumerate(model.layers):
        q, k, v = block.query_key_value(x)
        scores = q @ k.transpose(-2, -1) * q.shape[-1] ** -0.5
        n = scores.shape[-1]
        added = [[bias(i, a, b) for b in range(n)] for a in range(n)]
        scores = scores + torch.stack([torch.stack(row) for row in added]).permute(2, 0, 1)
        branch = (scores.softmax(-1) @ v).transpose(1, 2).flatten(2)
        x = x + block.attn.proj(branch)
        x = x + block.ffn(block.ln2(x))
    return model.ln1(x)


@pytest.mark.parametrize("kind", ["shared", "per_block"])
def test_bias_equals_a_loop_over_pairs(tiny_vit, kind):
    model = draw(tiny_vit(img_size=(16, 24), rel_pos_bias=kind, pos_embed="none"))
    images, (h, w) = torch.randn(2, 3, 16, 24), (2, 3)

    def bias(i, a, b):
        table = tables(model)[0 if kind == "shared" else i]
        if a == 0 and b == 0:
            return table[-1]
        if a == 0 or b == 0:
            return table[-3 if a == 0 else -2]  # CLS asks, or is asked
        (ya, xa), (yb, xb) = divmod(a - 1, w), divmod(b - 1, w)
        return table[(ya - yb + h - 1) * (2 * w - 1) + xa - xb + w - 1]

    expected = reference(model, images, bias)
    out = model.encode(images)
    torch.testing.assert_close(out.tokens, expected[:, 1:], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(out.cls, expected[:, 0], atol=1e-5, rtol=1e-5)
    out.tokens.square().sum().backward()
    assert all(table.grad.abs().sum() > 0 for table in tables(model))


@pytest.mark.parametrize("kind", ["shared", "per_block"])
def test_dropped_patches_take_their_bias_with_them(tiny_vit, kind):
    """Hiding keys with minus infinity is the same as dropping them."""
    model, images = draw(tiny_vit(rel_pos_bias=kind)), torch.randn(2, 3, 32, 32)
    mask = torch.zeros(2, 16, dtype=torch.bool)
    mask[0, 3:15], mask[1, :12] = True, True
    out = model.encode(images, mask)
    hidden = torch.nn.functional.pad(mask, (1, 0))[:, None, None, :]
    x, pos = model._add_position(*model.patch_embed(images))
    x = model._prepend_cls(x, pos)
    for block in model.layers:
        table = block.attn.relative_position_bias_table
        table = tables(model)[0] if table is None else table
        bias = model.relative_bias(table, (4, 4)).masked_fill(hidden, float("-inf"))
        x = block(x, bias)
    kept = out.kept[..., None].expand(-1, -1, 48)
    torch.testing.assert_close(model.ln1(x)[:, 1:].gather(1, kept), out.tokens)


def test_index_without_cls():
    assert torch.equal(
        relative_position_index((3, 2), False), relative_position_index((3, 2), True)[1:, 1:]
    )


def test_resized_tables_keep_ends_and_cls_rows():
    """A table that is linear in the offset stays so, but for the bicubic kernel at the borders."""
    dy, dx = torch.meshgrid(torch.linspace(-1, 1, 7), torch.linspace(-1, 1, 7), indexing="ij")
    table = torch.cat([(dy + 2 * dx).flatten()[:, None], torch.tensor([[5.0], [6.0], [7.0]])])
    out = resize_relative_table(table, (4, 4), (7, 7))
    assert out.shape == (13 * 13 + 3, 1) and out[-3:, 0].tolist() == [5.0, 6.0, 7.0]
    maps = out[:-3, 0].view(13, 13)
    assert maps[0, 0] == pytest.approx(-3) and maps[-1, -1] == pytest.approx(3)
    assert maps[6, 6] == pytest.approx(0, abs=1e-6) and bool((maps.diff(dim=1) > 0).all())


def test_a_shared_table_becomes_one_a_block_and_is_resized(tiny_vit, tmp_path):
    source = draw(tiny_vit(rel_pos_bias="shared", pos_embed="none", mask_mode="token"))
    path = tmp_path / "shared.pth"
    torch.save({"state_dict": {f"backbone.{k}": v for k, v in source.state_dict().items()}}, path)
    init = dict(type="Pretrained", checkpoint=str(path))
    model = tiny_vit(rel_pos_bias="per_block", pos_embed="none", init_cfg=init)
    for table in tables(model):
        assert torch.equal(table, tables(source)[0])
    images = torch.randn(1, 3, 32, 32)
    torch.testing.assert_close(model.eval()(images)[0], source(images)[0])
    larger = tiny_vit(rel_pos_bias="shared", pos_embed="none", img_size=48, init_cfg=init)
    expected = resize_relative_table(tables(source)[0], (4, 4), (6, 6))
    torch.testing.assert_close(tables(larger)[0], expected)
    wide = torch.randn(1, 3, 48, 48)  # other sizes than the table's are served as they come
    torch.testing.assert_close(larger.eval()(wide)[0], source(wide)[0])


def test_the_last_block_may_have_heads_of_its_own(tiny_vit):
    model = tiny_vit(last_block_heads=6)
    assert [block.attn.num_heads for block in model.layers] == [4, 4, 6]
    plain = tiny_vit()
    plain.load_state_dict(model.state_dict())  # the count is in no shape
    with pytest.raises(UserError, match="num_heads = 7"):
        tiny_vit(last_block_heads=7)
    with pytest.raises(UserError, match="last_block_heads = 6.*share one table"):
        tiny_vit(last_block_heads=6, rel_pos_bias="shared")


def test_drop_path_schedules(tiny_vit):
    def rates(**options):
        return [b.attn.drop_path.rate for b in tiny_vit(drop_path_rate=0.2, **options).layers]

    assert rates() == pytest.approx([0.0, 0.1, 0.2])
    assert rates(drop_path_schedule="constant") == [0.2, 0.2, 0.0]


def test_beit_weights(tiny_vit):
    wide = dict(embed_dims=128, num_layers=2, num_heads=4, feedforward_channels=512)
    model = tiny_vit(arch=wide, weight_init="beit")
    for number, block in enumerate(model.layers, 1):
        # a normal cut at one standard deviation has 0.54 of it
        assert block.attn.qkv.weight.std().item() == pytest.approx(0.54 * 0.02, rel=0.05)
        shrunk = 0.54 * 0.02 / (2 * number) ** 0.5
        assert block.attn.proj.weight.std().item() == pytest.approx(shrunk, rel=0.05)
        assert block.ffn.layers[1].weight.std().item() == pytest.approx(shrunk, rel=0.05)


def test_nothing_runs_after_the_last_tap_when_no_head_needs_tokens(tiny_vit):
    model, images = tiny_vit(), torch.randn(2, 3, 32, 32)
    called = []
    for block in model.layers:
        block.ffn.register_forward_hook(lambda *_: called.append("ffn"))
    out = model.encode(images, needs=Needs(qkv=frozenset({-1}), tokens=False))
    assert called == ["ffn", "ffn"] and out.qkv[-1][0].shape == (2, 4, 17, 12)
    full = model.encode(images, needs=Needs(qkv=frozenset({-1})))
    assert len(called) == 5
    for early, late in zip(out.qkv[-1], full.qkv[-1], strict=True):
        torch.testing.assert_close(early, late)


def test_its_own_tables_are_not_taken_for_another_grids(tiny_vit):
    """(2 * 5 - 1) * (2 * 13 - 1) is the square of 15, as if the grid were 8x8."""
    model = draw(tiny_vit(img_size=(40, 104), rel_pos_bias="shared", pos_embed="none"))
    before = tables(model)[0].clone()
    model.load_state_dict({k: v.clone() for k, v in model.state_dict().items()})
    assert torch.equal(tables(model)[0], before)


def test_one_grid_is_remembered(tiny_vit):
    model = tiny_vit(rel_pos_bias="shared", pos_embed="none")
    for width in (32, 40, 48):
        model(torch.randn(1, 3, 32, width))
    assert len(model._offsets) == 1
