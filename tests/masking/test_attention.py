"""Attention-guided masks: the probability is the attention's."""

from itertools import permutations

import pytest
import torch

from mimseg.errors import UserError
from mimseg.outputs import TeacherOutput
from mimseg.registry import MODELS

CPU = torch.device("cpu")


def masking(**options):
    built = MODELS.build(dict(type="mimseg.AttentionMasking", seed=0) | options)
    built.init_weights()
    return built


def teachers(attention, grid, name="teacher"):
    return {name: TeacherOutput(grid, attention=attention)}


def test_counts_are_exact_and_masks_are_of_their_image():
    attention = torch.full((3, 16), 1e-4)
    for image in range(3):
        attention[image, 4 * image : 4 * image + 4] = 1.0  # these are all but certain to be seen
    made = masking(ratio=0.75, num_masks=5)
    assert made.needs.attention and made.teacher == "teacher"
    mask = made(3, (4, 4), CPU, teachers(attention, (4, 4)))
    assert mask.shape == (15, 16) and mask.sum(1).tolist() == [12] * 15
    seen = (~mask).view(3, 5, 4, 4).float().mean((1, 3))
    assert (seen.diagonal() > 0.9).all()
    many = masking(ratio=0.5, num_masks=20)(3, (4, 4), CPU, teachers(attention, (4, 4)))
    assert len({tuple(row.tolist()) for row in many[:20]}) > 10  # the masks of an image differ


def test_patches_are_drawn_without_replacement_in_proportion():
    """The chance to be seen, from every order of drawing, within 4.5 standard errors."""
    attention = torch.tensor([0.4, 0.3, 0.15, 0.1, 0.04, 0.01], dtype=torch.float64)
    expected = torch.zeros(6, dtype=torch.float64)
    for first, second in permutations(range(6), 2):
        chance = attention[first] * attention[second] / (1 - attention[first])
        expected[[first, second]] += chance
    draws = 20000
    given = teachers(attention.float()[None] * 3, (2, 3))  # need not sum to one
    mask = masking(ratio=4 / 6, num_masks=draws)(1, (2, 3), CPU, given)
    seen = (~mask).double().mean(0)
    error = (expected * (1 - expected) / draws).sqrt()
    assert ((seen - expected).abs() < 4.5 * error).all()


def test_a_patch_without_attention_comes_last():
    attention = torch.tensor([[0.0, 0.5, 0.0, 0.5]])
    mask = masking(ratio=0.5, num_masks=100)(1, (2, 2), CPU, teachers(attention, (2, 2)))
    assert (mask == torch.tensor([True, False, True, False])).all()
    mask = masking(ratio=0.5)(1, (2, 2), CPU, teachers(torch.zeros(1, 4), (2, 2)))
    assert int(mask.sum()) == 2


def test_seeds_and_the_teacher_of_another_name():
    given = teachers(torch.rand(2, 16), (4, 4), "clip")
    draw = [masking(teacher="clip", seed=seed)(2, (4, 4), CPU, given) for seed in (1, 1, 2)]
    assert torch.equal(draw[0], draw[1]) and not torch.equal(draw[0], draw[2])


def test_bad_input_is_told():
    with pytest.raises(UserError, match="masking.ratio"):
        masking(ratio=1.5)
    with pytest.raises(UserError, match="masking.teacher.*CLS token's attention"):
        masking()(1, (4, 4), CPU, {"teacher": TeacherOutput((4, 4))})
    with pytest.raises(UserError, match="masking.teacher = 'clip'"):
        masking(teacher="clip")(1, (4, 4), CPU, teachers(torch.rand(1, 16), (4, 4)))
    with pytest.raises(UserError, match="student's grid"):
        masking()(1, (4, 4), CPU, teachers(torch.rand(1, 9), (3, 3)))
    with pytest.raises(UserError, match="2x2 grid"):
        masking(ratio=0.8)(1, (2, 2), CPU, teachers(torch.rand(1, 4), (2, 2)))
