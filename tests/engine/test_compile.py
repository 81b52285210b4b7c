"""Compiled networks compute the same, keep their names, and are watched as before."""

import pytest
import torch

from mimseg.engine.compile import check_compile, compile_networks
from mimseg.errors import UserError

EAGER = {"backend": "eager"}  # traces and guards as ever, and needs no C++ compiler
VIT = dict(
    type="mimseg.TimmTeacher",
    model="vit_tiny_patch16_224",
    weights="random",
    model_kwargs=dict(img_size=32, patch_size=8, embed_dim=48, depth=3, num_heads=4),
)
RELATIONS = dict(
    masking=None,
    teacher=VIT,
    normalization=dict(type="mimseg.NoNormalization", layers=()),
    head=dict(type="mimseg.RelationHead", relations=("qk", "vv"), teacher_layer=1),
    loss=dict(type="mimseg.RelationKLLoss"),
    positions="all",
    with_cls=True,
)


def compiled(blocks):
    return [block._compiled_call_impl is not None for block in blocks]


@pytest.mark.parametrize("options", [{}, dict(teacher=VIT), RELATIONS], ids=["vit", "timm", "qkv"])
def test_same_losses_and_gradients(tiny_mim, options):
    """Twice, with other images: what a hook saw the first time must not be seen again."""
    torch._dynamo.reset()
    plain, fast = tiny_mim(**options), tiny_mim(**options)
    fast.load_state_dict(plain.state_dict())
    for name, teacher in plain.bank.teachers.items():
        fast.bank[name].load_state_dict(teacher.state_dict())
    compile_networks(fast, check_compile(dict(student=EAGER, teacher=EAGER)))
    assert list(fast.state_dict()) == list(plain.state_dict())
    for model in (plain, fast):
        model.train()
    for _ in range(2):
        inputs = {view: torch.rand(3, 3, 32, 32) for view in ("student", "teacher")}
        results = []
        for model in (plain, fast):
            model.zero_grad()
            loss = sum(model(inputs, mode="loss").values())
            loss.backward()
            results.append((loss.detach(), model.backbone.layers[0].attn.qkv.weight.grad))
        torch.testing.assert_close(results[1], results[0], atol=1e-6, rtol=1e-5)
    assert all(compiled(fast.backbone.layers))
    watched = [index == 1 and options is RELATIONS for index in range(3)]
    assert compiled(fast.bank["teacher"].blocks()) == [not w for w in watched]


@pytest.mark.parametrize(
    ("settings", "key"),
    [
        (True, "compile = True"),
        (dict(head=True), "compile.head"),
        (dict(student="fast"), "compile.student"),
    ],
)
def test_unknown_settings_are_refused(settings, key):
    with pytest.raises(UserError, match=key):
        check_compile(settings)


def test_nothing_to_compile_is_told(tiny_mim, tiny_vit):
    pixels = dict(type="mimseg.PixelTeacher")
    with pytest.raises(UserError, match="compile.teacher"):
        compile_networks(tiny_mim(teacher=pixels), {"teacher": EAGER})
    with pytest.raises(UserError, match="a model with teachers"):
        compile_networks(tiny_vit(), {"teacher": EAGER})
