"""SimMIM as five slots equals mmpretrain's SimMIM: same weights, mask, loss and gradients.

Their student is a Swin transformer, ours a ViT: the same ViT stands in their algorithm here, and
neck, head and loss are theirs. What differs is named where it is met:

- pixel shuffle orders a patch's outputs as (channel, row, column), our targets are flattened as
  (row, column, channel); the projection's rows are permuted;
- PixelReconstructionLoss divides by the number of masked pixels, counted once for all channels, and
  only with `channel=3` is that a mean; without it (the default) it is three times ours.
"""

import pytest
import torch
from mmengine.registry import DefaultScope, init_default_scope
from torch import nn

from mimseg.registry import MODELS
from mimseg.teachers.base import IMAGENET_MEAN, IMAGENET_STD

ARCH = dict(embed_dims=48, num_layers=3, num_heads=4, feedforward_channels=96)
PATCH = 8


def ours():
    model = MODELS.build(
        dict(
            type="mimseg.MaskedImageModeling",
            backbone=dict(
                type="mimseg.ViT",
                arch=ARCH,
                img_size=32,
                patch_size=PATCH,
                mask_mode="token",
                pos_embed="learned",
            ),
            masking=dict(type="mimseg.RandomMasking", ratio=0.6, seed=3),
            teacher=dict(type="mimseg.PixelTeacher"),
            normalization=dict(type="mimseg.NoNormalization"),
            head=dict(type="mimseg.LinearHead"),
            loss=dict(type="mimseg.L1Loss"),
        )
    )
    model.init_weights()
    return model


class Student(nn.Module):
    """Our ViT with the interface of their SimMIMSwinTransformer: a tuple with one map."""

    def __init__(self, vit):
        super().__init__()
        self.vit = vit

    def forward(self, images, mask):
        tokens = self.vit.encode(images, mask.flatten(1)).tokens
        return (tokens.transpose(1, 2).unflatten(2, (4, 4)),)


def theirs(vit, channel):
    init_default_scope("mmpretrain")
    from mmpretrain.registry import MODELS as THEIR_MODELS

    return THEIR_MODELS.build(
        dict(
            type="SimMIM",
            backbone=Student(vit),
            neck=dict(type="SimMIMLinearDecoder", in_channels=48, encoder_stride=PATCH),
            head=dict(
                type="SimMIMHead",
                patch_size=PATCH,
                loss=dict(type="PixelReconstructionLoss", criterion="L1", channel=channel),
            ),
        )
    )


def from_pixel_shuffle(rows):
    """(3 * p * p, ...) in the order (channel, row, column) -> (row, column, channel)."""
    return rows.unflatten(0, (3, PATCH, PATCH)).permute(1, 2, 0, 3).flatten(0, 2)


@pytest.mark.parametrize("channel, factor", [(3, 1), (None, 3)])
def test_simmim_equals_mmpretrain(channel, factor):
    from mmpretrain.structures import DataSample

    torch.manual_seed(0)
    model, twin = ours(), ours()
    twin.load_state_dict(model.state_dict())
    reference = theirs(twin.backbone, channel)
    convolution = reference.neck.decoder[0]
    nn.init.normal_(convolution.bias, std=0.1)
    projection = model.objectives["loss"].head.projection
    with torch.no_grad():
        projection.weight.copy_(from_pixel_shuffle(convolution.weight.flatten(1)))
        projection.bias.copy_(from_pixel_shuffle(convolution.bias[:, None])[:, 0])

    images = torch.rand(3, 3, 32, 32)
    masks = []
    draw = model.masking.draw
    model.masking.draw = lambda *a: masks.append(draw(*a)) or masks[-1]
    loss = model.loss({"student": images, "teacher": images})["loss"]
    loss.backward()
    assert 0 < masks[0].sum() < masks[0].numel()

    samples = [DataSample().set_mask(mask.reshape(4, 4)) for mask in masks[0]]
    mean, std = (torch.tensor(x).view(3, 1, 1) for x in (IMAGENET_MEAN, IMAGENET_STD))
    expected = reference.loss((images - mean) / std, samples)["loss"]
    torch.testing.assert_close(factor * loss, expected, rtol=1e-5, atol=1e-6)
    (expected / factor).backward()

    gradients = dict(twin.backbone.named_parameters())
    assert gradients["mask_token"].grad.abs().sum() > 0
    for name, parameter in model.backbone.named_parameters():
        torch.testing.assert_close(
            parameter.grad, gradients[name].grad, rtol=1e-4, atol=1e-6, msg=name
        )
    for ours_, theirs_ in [
        (projection.weight, convolution.weight.grad.flatten(1)),
        (projection.bias, convolution.bias.grad[:, None]),
    ]:
        expected = from_pixel_shuffle(theirs_).reshape(ours_.shape)
        torch.testing.assert_close(ours_.grad, expected, rtol=1e-4, atol=1e-6)


@pytest.fixture(autouse=True)
def _scope():
    yield
    DefaultScope._instance_dict.clear()
