"""The prompting decoder updates mask tokens and nothing else."""

import pytest
import torch
import torch.nn.functional as F

from mimseg.errors import UserError
from mimseg.heads.base import Setting
from mimseg.layers.position import sincos_position_embedding
from mimseg.registry import MODELS


def build(**options):
    cfg = dict(in_channels=48, out_channels=5, embed_dims=32, depth=2, num_heads=4) | options
    head = MODELS.build(dict(type="mimseg.CrossAttentionDecoderHead") | cfg)
    head.init_weights()
    return head


def encode(tiny_vit, **options):
    model = tiny_vit(mask_mode="drop", **options)
    mask = torch.ones(2, 16, dtype=torch.bool)
    mask[0, [2, 9, 15]] = False
    mask[1, [0, 4, 7]] = False
    return model, model.encode(torch.randn(2, 3, 32, 32), mask)


def reference(head, student, row):
    """Every position of one image, an image at a time."""
    table = sincos_position_embedding((4, 4), 32, with_cls=False)[0]
    kept = student.kept[row].tolist()
    hidden = [i for i in range(16) if i not in kept]
    cls, visible = head.embed(student.cls[row])[None], head.embed(student.tokens[row]) + table[kept]
    x = head.mask_token[0] + table[hidden]
    for block in head.layers:
        normed = block.ln1(x)
        q = block.attn.q(normed).reshape(13, 4, 8).transpose(0, 1)
        k, v = block.attn.kv(torch.cat([cls, visible, normed])).reshape(17, 2, 4, 8).unbind(1)
        scores = q @ k.permute(1, 2, 0) / 8**0.5
        read = (scores.softmax(-1) @ v.transpose(0, 1)).transpose(0, 1).reshape(13, 32)
        x = x + block.attn.proj(read)
        inner, outer = block.ffn.layers[0][0], block.ffn.layers[1]
        x = x + outer(F.gelu(inner(block.ln2(x))))
    whole = torch.empty(17, 32)
    whole[0], whole[[1 + i for i in kept]], whole[[1 + i for i in hidden]] = cls[0], visible, x
    return head.projection(head.norm(whole))


def test_every_position_is_predicted(tiny_vit):
    model, student = encode(tiny_vit)
    head = build()
    torch.nn.init.normal_(head.layers[0].attn.kv.bias)
    out = head(student, torch.arange(34))
    expected = torch.cat([reference(head, student, row) for row in range(2)])
    torch.testing.assert_close(out, expected, atol=1e-5, rtol=1e-5)
    out.square().sum().backward()
    assert all(p.grad.abs().sum() > 0 for p in head.parameters())
    assert model.cls_token.grad.abs().sum() > 0
    positions = torch.tensor([0, 5, 20])
    torch.testing.assert_close(head(student, positions), out[positions])


def test_a_student_without_cls(tiny_vit):
    _, student = encode(tiny_vit, with_cls_token=False)
    assert build()(student, torch.arange(34)).isfinite().all()


def test_a_student_that_keeps_its_patches_is_refused(tiny_vit):
    head = build()
    head.check(Setting(tiny_vit(mask_mode="drop"), "all", masked=True))
    for mode, masked in (("token", True), ("drop", False)):
        with pytest.raises(UserError, match="mask_mode='drop'"):
            head.check(Setting(tiny_vit(mask_mode=mode), "all", masked=masked))


def test_heads_that_do_not_divide_the_width_are_told():
    with pytest.raises(UserError, match="head.num_heads"):
        build(num_heads=5)
