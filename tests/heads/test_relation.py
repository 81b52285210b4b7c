"""Relations of queries, keys and values, on both sides."""

import pytest
import torch

from mimseg.errors import UserError
from mimseg.heads.base import Head, Setting
from mimseg.outputs import StudentOutput, TeacherOutput
from mimseg.registry import MODELS


def build(**options):
    return MODELS.build(dict(type="mimseg.RelationHead", in_channels=12) | options)


def build_target(**options):
    return MODELS.build(dict(type="mimseg.Relations") | options)


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
    head, relations = build(), build_target(layer=5)
    assert relations.needs.qkv == {5} and not relations.needs.layers
    assert head.student_needs.qkv == {-1} and not head.student_needs.tokens
    head(student(qkv(2, 3, 5, 4)), torch.tensor([0]))
    parts = qkv(2, 3, 5, 16)
    target = relations(teacher(parts, 5))
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
    relations = build_target(num_heads=2, relations=("qk",))
    parts = qkv(1, 4, 5, 4)
    target = relations(teacher(parts))
    assert target.shape == (1, 5, 1, 2, 5)
    torch.testing.assert_close(
        target[0],
        build(num_heads=2, relations=("qk",), in_channels=16)(student(parts), torch.arange(5)),
    )
    message = "normalization.num_heads = 2: expected a divisor of the teacher's"
    with pytest.raises(UserError, match=message):
        relations(teacher(qkv(1, 3, 5, 5)))


def test_neither_side_has_a_cls_token():
    head = build()
    parts = qkv(2, 3, 4, 4)
    out = head(student(parts, cls=False), torch.tensor([1, 2]))
    first = parts[0][0, :, 0, None] @ parts[1][0].transpose(1, 2) / 2
    torch.testing.assert_close(out[0, 0], first[:, 0])
    assert build_target()(teacher(qkv(2, 3, 4, 4))).shape == (2, 5, 2, 3, 4)


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
        backbone = dict(type="mimseg.ViT", arch=arch, img_size=32, patch_size=8)
        backbone["with_cls_token"] = options.pop("with_cls_token", True)
        return tiny_mim(
            init=False,
            masking=None,
            positions="all",
            teacher=dict(type="mimseg.ViTTeacher", init="random", backbone=backbone),
            normalization=dict(type="mimseg.NoNormalization", layers=()),
            head=dict(type="mimseg.RelationHead") | options,
            loss=dict(type="mimseg.RelationKLLoss"),
        )

    model = build_with(num_heads=8, relations=("vv",))
    relations = model.objectives["loss"].normalization
    assert type(relations).__name__ == "Relations" and relations.needs.qkv == {-1}
    assert relations.relations == model.objectives["loss"].head.relations
    with pytest.raises(UserError, match="head.num_heads = 6: .*teacher's width, 40.*Fix"):
        build_with(num_heads=6)
    with pytest.raises(UserError, match="with_cls_token = 'with a CLS.*teacher's: without"):
        build_with(num_heads=8, with_cls_token=False)


def test_sides_that_do_not_match_are_told():
    loss, relations = MODELS.build(dict(type="mimseg.RelationKLLoss")), build_target()
    prediction = build()(student(qkv(2, 3, 5, 4)), torch.tensor([0]))
    with pytest.raises(UserError, match="1, 2, 3, 5.* and .*1, 2, 6, 5.*backbone.last_block_heads"):
        loss(prediction, relations(teacher(qkv(2, 6, 5, 4))).flatten(0, 1)[:1])
    with pytest.raises(UserError, match="with_cls_token"):
        loss(prediction, relations(teacher(qkv(2, 3, 4, 4))).flatten(0, 1)[:1])


RELATIONS = dict(
    masking=None,
    positions="all",
    with_cls=True,
    loss=dict(type="mimseg.RelationKLLoss"),
    head=dict(type="mimseg.RelationHead", relations=("qk", "qv"), num_heads=6),
    normalization=dict(type="mimseg.Relations", relations=("qk", "qv"), layer=1, num_heads=6),
)


@pytest.mark.parametrize("normalization", [None, dict(layers=()), dict(layers=(-1,))])
def test_the_formula_is_what_runs_and_older_configs_give_the_same(tiny_mim, views, normalization):
    """A normalization that is left out or none is the head's default: the same relations."""
    model = tiny_mim(**RELATIONS)
    head = RELATIONS["head"] | dict(teacher_layer=1)
    if normalization is not None:
        normalization = dict(type="mimseg.NoNormalization") | normalization
    older = tiny_mim(**RELATIONS | dict(head=head, normalization=normalization))
    older.load_state_dict(model.state_dict())
    assert list(older.state_dict()) == list(model.state_dict())
    loss = model.loss(views)["loss"]
    assert torch.equal(older.loss(views)["loss"], loss)

    objective = model.objectives["loss"]
    net, images = model.backbone, (views["student"] - model.mean) / model.std
    out = net.encode(images, needs=objective.student_needs)
    needs = older.teacher_needs()["teacher"]
    target = objective.normalization(model.bank["teacher"](views["teacher"], needs))
    prediction = objective.head(out, torch.arange(3 * 17))
    expected = objective.criterion(prediction, target.flatten(0, 1)).mean()
    torch.testing.assert_close(expected, loss)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            dict(normalization=dict(type="mimseg.TokenLayerNorm")),
            "mimseg.TokenLayerNorm.*Relations",
        ),
        (dict(normalization=dict(type="mimseg.Relations")), "'qk', 'vv'.*'qk', 'qv'"),
        (dict(head=RELATIONS["head"] | dict(teacher_layer=2)), "teacher_layer = 2.*layer = 1"),
        (dict(head=dict(type="mimseg.LinearHead")), "LinearHead can predict.*RelationHead"),
    ],
)
def test_sides_that_differ_are_refused_when_the_model_is_built(tiny_mim, options, message):
    with pytest.raises(UserError, match=message):
        tiny_mim(init=False, **RELATIONS | options)


def test_a_head_that_makes_targets_is_refused():
    with pytest.raises(UserError, match="head.type = 'Old'.*Normalization"):

        class Old(Head):
            def target(self, teacher, normalization):
                return normalization(teacher)


def test_dropped_patches_are_refused(tiny_vit):
    head = build()
    with pytest.raises(UserError, match="mask_mode='token'"):
        head.check(Setting(tiny_vit(mask_mode="drop"), "visible", masked=True))
    head.check(Setting(tiny_vit(mask_mode="drop"), "all", masked=False))
    head.check(Setting(tiny_vit(mask_mode="token"), "masked", masked=True))
    kept = torch.zeros(2, 4, dtype=torch.long)
    with pytest.raises(UserError, match="mask_mode='token'"):
        head(student(qkv(2, 3, 5, 4), kept=kept), torch.tensor([0]))
