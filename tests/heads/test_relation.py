"""Relations of queries, keys and values, on both sides."""

import pytest
import torch

from mimseg.errors import UserError
from mimseg.outputs import StudentOutput, TeacherOutput
from mimseg.registry import MODELS


def build(**options):
    return MODELS.build(dict(type="mimseg.RelationHead", in_channels=12) | options)


def qkv(rows, heads, tokens, dims):
    return tuple(torch.randn(rows, heads, tokens, dims, requires_grad=True) for _ in range(3))


def student(parts, grid=(2, 2), cls=True, kept=None):
    rows = parts[0].shape[0]
    first = torch.zeros(rows, 12) if cls else None
    tokens = torch.zeros(rows, grid[0] * grid[1], 12)
    return StudentOutput(tokens, first, None, kept, grid, qkv={-1: parts})


def teacher(parts, layer=-1, grid=(2, 2)):
    return TeacherOutput(grid, qkv={layer: parts})


@pytest.mark.parametrize("relations", [("qk", "vv"), ("qq", "kk", "vv"), ("kq",)])
def test_scaled_products_of_the_chosen_pairs(relations):
    head = build(relations=relations)
    parts = dict(zip("qkv", qkv(2, 3, 5, 4), strict=True))
    out = head(student(tuple(parts.values())), torch.tensor([0, 3, 5 + 2]))
    for n, (row, query) in enumerate([(0, 0), (0, 3), (1, 2)]):
        for r, (a, b) in enumerate(relations):
            for h in range(3):
                expected = parts[b][row, h] @ parts[a][row, h, query] / 2  # sqrt(4)
                torch.testing.assert_close(out[n, r, h], expected)
    assert out.shape == (3, len(relations), 3, 5)
    out.sum().backward()
    assert ("v" in "".join(relations)) == (parts["v"].grad is not None)


def test_both_sides_have_their_own_head_width():
    head = build(teacher_layer=5)
    assert head.teacher_needs.qkv == {5} and not head.teacher_needs.layers
    assert head.student_needs.qkv == {-1} and not head.student_needs.tokens
    head(student(qkv(2, 3, 5, 4)), torch.tensor([0]))
    parts = qkv(2, 3, 5, 16)
    target = head.target(teacher(parts, 5), None)
    assert target.shape == (2, 5, 2, 3, 5)
    expected = parts[0] @ parts[1].transpose(2, 3) / 4
    torch.testing.assert_close(target[:, :, 0], expected.transpose(1, 2))


def test_heads_regrouped_alike():
    head = build(num_heads=2, relations=("qk",))
    parts = qkv(1, 3, 5, 4)
    out = head(student(parts), torch.arange(5))
    q, k = (x.transpose(1, 2).reshape(5, 2, 6) for x in parts[:2])  # three heads of 4 to two of 6
    expected = torch.einsum("ihd,jhd->ihj", q, k) / 6**0.5
    torch.testing.assert_close(out[:, 0], expected)
    assert head.target(teacher(qkv(1, 4, 5, 4)), None).shape == (1, 5, 1, 2, 5)
    with pytest.raises(UserError, match="head.num_heads = 2: expected a divisor of the teacher's"):
        head.target(teacher(qkv(1, 3, 5, 5)), None)


def test_neither_side_has_a_cls_token():
    head = build()
    parts = qkv(2, 3, 4, 4)
    out = head(student(parts, cls=False), torch.tensor([1, 2]))
    first = parts[0][0, :, 0, None] @ parts[1][0].transpose(1, 2) / 2
    torch.testing.assert_close(out[0, 0], first[:, 0])
    assert head.target(teacher(qkv(2, 3, 4, 4)), None).shape == (2, 5, 2, 3, 4)


def test_a_model_trains_what_the_relations_touch(tiny_vit):
    model = tiny_vit(mask_mode="token", last_block_heads=6)
    head = MODELS.build(dict(type="mimseg.RelationHead", in_channels=48))
    out = head(
        model.encode(torch.randn(2, 3, 32, 32), needs=head.student_needs), torch.arange(2 * 17)
    )
    assert out.shape == (34, 2, 6, 17)
    out.square().sum().backward()
    assert model.patch_embed.projection.weight.grad.abs().sum() > 0
    assert model.layers[-1].attn.qkv.weight.grad.abs().sum() > 0
    assert model.layers[-1].attn.proj.weight.grad is None


@pytest.mark.parametrize(
    "options, key",
    [
        (dict(relations=("qx",)), "head.relations"),
        (dict(relations=("q",)), "head.relations"),
        (dict(relations=()), "head.relations"),
        (dict(num_heads=5), "head.num_heads"),
    ],
)
def test_bad_options_are_told(options, key):
    with pytest.raises(UserError, match=key):
        build(**options)


def test_a_teacher_that_does_not_fit_is_told_when_the_model_is_built(tiny_mim):
    def build_with(**options):
        arch = dict(embed_dims=40, num_layers=2, num_heads=4, feedforward_channels=40)
        own = dict(type="mimseg.ViT", arch=arch, img_size=32, patch_size=8)
        own["with_cls_token"] = options.pop("with_cls_token", True)
        return tiny_mim(
            init=False,
            masking=None,
            positions="all",
            teacher=dict(type="mimseg.ViTTeacher", init="random", backbone=own),
            normalization=dict(type="mimseg.NoNormalization", layers=()),
            head=dict(type="mimseg.RelationHead") | options,
            loss=dict(type="mimseg.RelationKLLoss"),
        )

    build_with(num_heads=8)
    with pytest.raises(UserError, match="head.num_heads = 6: .*teacher's width, 40.*Fix"):
        build_with(num_heads=6)
    with pytest.raises(UserError, match="with_cls_token = 'with a CLS.*teacher's: without"):
        build_with(num_heads=8, with_cls_token=False)


def test_sides_that_do_not_match_are_told():
    head = build()
    head(student(qkv(2, 3, 5, 4)), torch.tensor([0]))
    with pytest.raises(UserError, match="backbone.last_block_heads = 3.*block -1, 6"):
        head.target(teacher(qkv(2, 6, 5, 4)), None)
    with pytest.raises(UserError, match="with_cls_token"):
        head.target(teacher(qkv(2, 3, 4, 4)), None)


def test_dropped_patches_are_refused(tiny_vit):
    head = build()
    with pytest.raises(UserError, match="mask_mode='token'"):
        head.check(tiny_vit(mask_mode="drop"), "visible", masked=True)
    head.check(tiny_vit(mask_mode="drop"), "all", masked=False)
    head.check(tiny_vit(mask_mode="token"), "masked", masked=True)
    kept = torch.zeros(2, 4, dtype=torch.long)
    with pytest.raises(UserError, match="mask_mode='token'"):
        head(student(qkv(2, 3, 5, 4), kept=kept), torch.tensor([0]))
