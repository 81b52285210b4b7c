"""MILAN as five slots equals mmpretrain's own MILAN: same weights, mask, loss and gradients.

Defects of theirs that are met here: the decoder's fixed table has rows and columns exchanged; the
CLIP generator reads its weights (text tower and all) in the constructor and leaves its parameters
trainable; CLIP is fed images normalised for ImageNet. The first is put right in their model before
comparing, the second is worked around, the third is repeated by our teacher's mean and std.
"""

import pytest
import torch
from mmengine.registry import DefaultScope, init_default_scope

from mimseg.algorithms.outputs import TeacherOutput
from mimseg.layers.position import sincos_position_embedding
from mimseg.registry import MODELS
from mimseg.teachers.base import IMAGENET_MEAN, IMAGENET_STD, Teacher

from gradients import assert_same_gradients  # isort: skip

ARCH = dict(embed_dims=48, num_layers=3, num_heads=4, feedforward_channels=96)
TARGET = 20  # width of CLIP's common space
NAMES = [
    ("embed.", "decoder_embed."),
    ("projection.", "decoder_pred."),
    ("layers.", "decoder_blocks."),
    ("norm.", "ln1."),
    ("mask_token", "mask_token"),
]


def theirs(monkeypatch):
    init_default_scope("mmpretrain")
    from mmpretrain.models.selfsup import milan
    from mmpretrain.models.utils.clip_generator_helper import CLIP
    from mmpretrain.registry import MODELS as THEIR_MODELS

    clip = CLIP(TARGET, 32, 2, 128, 8, 4, 6, 64, 1, 1)
    monkeypatch.setattr(milan, "_load_checkpoint", lambda path: clip.state_dict())
    return THEIR_MODELS.build(
        dict(
            type="MILAN",
            backbone=dict(type="MILANViT", arch=ARCH, img_size=32, patch_size=8, mask_ratio=0.75),
            neck=dict(
                type="MILANPretrainDecoder",
                num_patches=16,
                patch_size=8,
                embed_dim=48,
                decoder_embed_dim=32,
                decoder_depth=2,
                decoder_num_heads=4,
                predict_feature_dim=TARGET,
            ),
            head=dict(
                type="MIMHead",
                loss=dict(type="CosineSimilarityLoss", shift_factor=2.0, scale_factor=2.0),
            ),
            target_generator=dict(type="CLIPGenerator", tokenizer_path="random"),
        )
    )


class TheirCLIP(Teacher):
    """mmpretrain's CLIP generator as a teacher; the same module serves both models."""

    offers = frozenset({"layers", "attention", "cls"})

    def __init__(self, generator):
        super().__init__(mean=IMAGENET_MEAN, std=IMAGENET_STD)
        self.generator, self.out_channels = generator, TARGET

    def targets(self, images, needs):
        x, attention = self.generator(images)
        assert needs.attention and needs.layers == {-1}
        return TeacherOutput((4, 4), {-1: x[:, 1:]}, {-1: x[:, 0]}, attention=attention[:, 0, 1:])


def ours(generator):
    model = MODELS.build(
        dict(
            type="mimseg.MaskedImageModeling",
            backbone=dict(type="mimseg.ViT", arch=ARCH, img_size=32, patch_size=8),
            masking=dict(type="mimseg.AttentionMasking", ratio=0.75, seed=3),
            teacher=TheirCLIP(generator),
            normalization=dict(type="mimseg.NoNormalization"),
            head=dict(type="mimseg.CrossAttentionDecoderHead", embed_dims=32, depth=2, num_heads=4),
            loss=dict(type="mimseg.CosineLoss", scale=2.0),
            positions="all",
            with_cls=True,
        )
    )
    model.init_weights()
    return model


def their_name(name):
    """Our parameter's name in mmpretrain's model."""
    if name.startswith("backbone."):
        return name
    name = name.removeprefix("objectives.loss.head.")
    ours_, theirs_ = next(pair for pair in NAMES if name.startswith(pair[0]))
    return "neck." + theirs_ + name[len(ours_) :]


def test_milan_equals_mmpretrain(monkeypatch):
    torch.manual_seed(0)
    reference = theirs(monkeypatch)
    reference.init_weights()
    for name, parameter in reference.neck.named_parameters():
        if name.endswith("bias"):
            torch.nn.init.normal_(parameter, std=0.1)  # zeros would hide a bias left out
    assert all(p.requires_grad for p in reference.target_generator.parameters())
    model = ours(reference.target_generator)
    assert not any(p.requires_grad for p in reference.target_generator.parameters())
    state = reference.state_dict()
    names = {name: their_name(name) for name, _ in model.named_parameters()}
    model.load_state_dict({n: state[t] for n, t in names.items()}, strict=False)

    table = reference.neck.decoder_pos_embed.data
    positions = sincos_position_embedding((4, 4), 32, with_cls=True)
    exchanged = table[:, 1:].reshape(1, 4, 4, 32).transpose(1, 2).flatten(1, 2)
    torch.testing.assert_close(exchanged, positions[:, 1:])
    table.copy_(positions)

    images = torch.rand(3, 3, 32, 32)
    masks = []
    draw = model.masking.draw
    monkeypatch.setattr(model.masking, "draw", lambda *a: masks.append(draw(*a)) or masks[-1])
    loss = model.loss({"student": images, "teacher": images})["loss"]
    loss.backward()
    assert masks[0].sum(1).tolist() == [12, 12, 12]

    order = masks[0].to(torch.uint8).argsort(dim=1, stable=True)  # visible patches first
    monkeypatch.setattr(torch, "multinomial", lambda *a, **k: order)
    mean, std = (torch.tensor(x).view(3, 1, 1) for x in (IMAGENET_MEAN, IMAGENET_STD))
    expected = reference.loss((images - mean) / std, None)["loss"]
    expected.backward()

    torch.testing.assert_close(loss, expected, rtol=1e-5, atol=1e-6)
    assert_same_gradients(model, reference, names)


def test_their_loss_is_two_minus_two_cosines():
    init_default_scope("mmpretrain")
    from mmpretrain.models.losses import CosineSimilarityLoss

    prediction, target = torch.randn(5, 7), torch.randn(5, 7)
    loss = MODELS.build(dict(type="mimseg.CosineLoss", scale=2.0))(prediction, target)
    expected = CosineSimilarityLoss(shift_factor=2.0, scale_factor=2.0)(prediction, target)
    torch.testing.assert_close(loss.mean(), expected)


@pytest.fixture(autouse=True)
def _scope():
    yield
    DefaultScope._instance_dict.clear()
