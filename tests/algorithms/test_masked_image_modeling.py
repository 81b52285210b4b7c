"""The algorithm: objectives, positions, frozen teachers and their state."""

import copy
from argparse import Namespace

import pytest
import torch
import torch.nn.functional as F
from mmengine.config import Config
from mmengine.model import ExponentialMovingAverage
from mmengine.registry import init_default_scope

from mimseg.errors import UserError
from mimseg.outputs import Needs
from mimseg.registry import MODELS

TINY = dict(embed_dims=48, num_layers=3, num_heads=4, feedforward_channels=96)


def slots(name, weight=1.0, **options):
    return (
        dict(
            name=name,
            teacher="net",
            normalization=dict(type="mimseg.TokenLayerNorm"),
            head=dict(type="mimseg.DecoderHead", embed_dims=32, depth=1, num_heads=4),
            loss=dict(type="mimseg.SmoothL1Loss"),
            weight=weight,
        )
        | options
    )


def reference_loss(model, views, mask, positions, beta=2.0):
    """dBOT's objective in a few lines; CLS first in every sequence."""
    student = model.backbone.encode((views["student"] - model.mean) / model.std, mask)
    head, teacher = model.objectives["loss"].head, model.bank["teacher"].backbone
    x = head.embed(student.tokens)
    full = head.mask_token.expand(mask.shape[0], 16, -1).clone()
    for row in range(mask.shape[0]):
        full[row, ~mask[row]] = x[row]
    full = torch.cat([head.embed(student.cls)[:, None], full + head._position((4, 4), x)], 1)
    for layer in head.layers:
        full = layer(full)
    prediction = head.projection(head.norm(full))
    with torch.no_grad():
        images = (views["teacher"] - model.mean) / model.std
        x, _ = teacher.patch_embed(images)
        x = torch.cat([teacher.cls_token.expand(len(x), -1, -1), x], 1) + teacher.pos_embed
        for layer in teacher.layers:
            x = layer(x)
        target = F.layer_norm(x, (48,), eps=1e-6).repeat_interleave(len(mask) // len(images), 0)
    loss = F.smooth_l1_loss(prediction, target, beta=beta, reduction="none").mean(-1)
    return (loss * positions).sum() / positions.sum()


@pytest.mark.parametrize("kind", ["masked", "visible", "all"])
@pytest.mark.parametrize("with_cls", [False, True])
@pytest.mark.parametrize("num_masks", [1, 3])
def test_loss_and_gradients_equal_a_short_reference(tiny_mim, views, kind, with_cls, num_masks):
    model = tiny_mim(
        positions=kind,
        with_cls=with_cls,
        masking=dict(type="mimseg.RandomMasking", ratio=0.75, seed=1, num_masks=num_masks),
    )
    twin = copy.deepcopy(model)
    loss = model.loss(views)["loss"]
    loss.backward()
    mask = twin.masking(3, (4, 4), torch.device("cpu"))
    chosen = {"masked": mask, "visible": ~mask, "all": torch.ones_like(mask)}[kind]
    first = torch.full((len(mask), 1), with_cls)
    expected = reference_loss(twin, views, mask, torch.cat([first, chosen], 1).float())
    expected.backward()
    torch.testing.assert_close(loss, expected, rtol=1e-5, atol=1e-6)
    for (name, ours), theirs in zip(model.named_parameters(), twin.parameters(), strict=True):
        if ours.requires_grad:
            torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-4, atol=1e-6, msg=name)


def test_built_by_mmpretrain_as_well(views):
    init_default_scope("mmpretrain")
    from mmpretrain.registry import MODELS as THEIRS

    arch = dict(embed_dims=48, num_layers=1, num_heads=4, feedforward_channels=96)
    cfg = dict(
        type="MaskedImageModeling",
        backbone=dict(type="mimseg.ViT", arch=arch, img_size=32, patch_size=8),
        masking=dict(type="mimseg.RandomMasking"),
        teacher=dict(type="mimseg.PixelTeacher"),
        normalization=dict(type="mimseg.NoNormalization"),
        head=dict(type="mimseg.DecoderHead", embed_dims=32, depth=1, num_heads=4),
        loss=dict(type="mimseg.L2Loss"),
    )
    model = THEIRS.build(cfg)
    assert isinstance(model, MODELS.get("MaskedImageModeling"))
    model.init_weights()
    assert model(views, mode="loss")["loss"].isfinite()


class PlainLoss(torch.nn.Module):
    """A loss as a user may write it, with a parameter."""

    def __init__(self):
        super().__init__()
        self.scale = torch.nn.Parameter(torch.tensor(2.0))

    def forward(self, prediction, target):
        return self.scale * (prediction - target).abs().mean(-1)


def test_a_plain_module_is_a_loss(tiny_mim, views):
    """It keeps its parameter names and asks for nothing."""
    model = tiny_mim(loss=PlainLoss())
    reference = tiny_mim(loss=dict(type="mimseg.L1Loss"))
    state = model.state_dict()
    assert state["objectives.loss.criterion.scale"] == 2
    reference.load_state_dict(state, strict=False)
    objectives = model.objectives["loss"], reference.objectives["loss"]
    assert objectives[0].teacher_needs == objectives[1].teacher_needs
    loss = model.loss(views)["loss"]
    torch.testing.assert_close(loss, 2 * reference.loss(views)["loss"])
    loss.backward()
    assert objectives[0].criterion.scale.grad != 0


def test_a_shared_teacher_runs_once_and_weights_count(tiny_mim, views):
    flat = dict.fromkeys(("teacher", "normalization", "head", "loss"))
    options = dict(
        **flat,
        teachers=dict(net=dict(type="mimseg.ViTTeacher", init="random")),
        objectives=[slots("near"), slots("far", weight=0.5, positions="visible")],
    )
    model = tiny_mim(**options)
    calls = []
    model.bank["net"].register_forward_hook(lambda *_: calls.append(1))
    losses = model.loss(views)
    assert list(losses) == ["loss_near", "loss_far"] and len(calls) == 1
    far = model.objectives["loss_far"]
    before = losses["loss_far"].item()
    far.weight = 1.0
    model.masking.init_weights()  # the same mask again
    assert model.loss(views)["loss_far"].item() == pytest.approx(2 * before, rel=1e-5)


def test_a_step_changes_the_student_and_leaves_the_teacher(tiny_mim, views):
    model = tiny_mim().train()
    teacher = copy.deepcopy(model.bank["teacher"].state_dict())
    names = [name for name, _ in model.named_parameters()]
    assert not [name for name in names if "teacher" in name]
    assert not model.bank["teacher"].training
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    model.loss(views)["loss"].backward()
    optimizer.step()
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter, before[name]) != parameter.requires_grad, name
    for name, value in model.bank["teacher"].state_dict().items():
        assert torch.equal(value, teacher[name]), name
    assert all(p.grad is None for p in model.bank["teacher"].parameters())


def test_the_first_teacher_is_the_initial_student_and_is_saved(tiny_mim):
    model = tiny_mim()
    student, teacher = model.backbone.state_dict(), model.bank["teacher"].backbone.state_dict()
    assert all(torch.equal(student[name], value) for name, value in teacher.items())
    torch.manual_seed(99)
    other = tiny_mim()
    assert not torch.equal(
        other.bank["teacher"].backbone.patch_embed.projection.weight,
        teacher["patch_embed.projection.weight"],
    )
    result = other.load_state_dict(model.state_dict())
    assert not result.missing_keys and not result.unexpected_keys
    for name, value in other.bank["teacher"].backbone.state_dict().items():
        assert torch.equal(value, teacher[name]), name


def test_resumed_masks_go_on_where_they_stopped(tiny_mim, views):
    model = tiny_mim()
    model.loss(views)
    state = copy.deepcopy(model.state_dict())
    expected = [model.masking(2, (4, 4), torch.device("cpu")) for _ in range(2)]
    assert not torch.equal(*expected)
    other = tiny_mim()
    other.load_state_dict(state)
    for mask in expected:
        assert torch.equal(other.masking(2, (4, 4), torch.device("cpu")), mask)


def test_a_checkpoint_teacher_is_not_saved_but_its_file_is_checked(tiny_mim, views, tmp_path):
    paths = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        paths.append(tmp_path / f"teacher{seed}.pth")
        torch.save({"state_dict": tiny_mim().state_dict()}, paths[-1])
    first = tiny_mim(teacher=dict(type="mimseg.ViTTeacher", init=str(paths[0])))
    state = first.state_dict()
    assert [k for k in state if k.startswith("teachers.")] == ["teachers.teacher.sha256"]
    source = torch.load(paths[0], weights_only=True)["state_dict"]
    weight = first.bank["teacher"].backbone.state_dict()["layers.0.attn.qkv.weight"]
    assert torch.equal(weight, source["backbone.layers.0.attn.qkv.weight"])
    tiny_mim(teacher=dict(type="mimseg.ViTTeacher", init=str(paths[0]))).load_state_dict(state)
    other = tiny_mim(teacher=dict(type="mimseg.ViTTeacher", init=str(paths[1])))
    with pytest.raises(UserError, match="SHA-256"):
        other.load_state_dict(state)


def test_a_checkpoint_teacher_with_code_in_its_file_needs_trust(tiny_mim, tmp_path):
    source = tiny_mim().state_dict()
    torch.save({"state_dict": source, "args": Namespace(lr=1)}, tmp_path / "a.pth")
    teacher = dict(type="mimseg.ViTTeacher", init=str(tmp_path / "a.pth"))
    with pytest.raises(UserError, match="teacher.init.*argparse.Namespace.*trust=True"):
        tiny_mim(teacher=teacher)
    model = tiny_mim(teacher=dict(teacher, trust=True))
    weight = model.bank["teacher"].backbone.state_dict()["layers.0.attn.qkv.weight"]
    assert torch.equal(weight, source["backbone.layers.0.attn.qkv.weight"])


def test_teacher_depth(tiny_mim, views):
    """Depth 0 leaves the patch embedding, positions and CLS."""
    model = tiny_mim(teacher=dict(type="mimseg.ViTTeacher", init="student", depth=0))
    teacher = model.bank["teacher"]
    out = teacher(views["teacher"], model.objectives["loss"].teacher_needs)
    net, images = model.backbone, (views["teacher"] - model.mean) / model.std
    torch.testing.assert_close(out.tokens[-1], net.patch_embed(images)[0] + net.pos_embed[:, 1:])
    torch.testing.assert_close(out.cls[-1], net.cls_token[:, 0].expand(3, -1))
    with pytest.raises(UserError, match="teacher.depth"):
        tiny_mim(teacher=dict(type="mimseg.ViTTeacher", depth=9))


def test_losses_stay_float32_under_autocast(tiny_mim, views):
    model = tiny_mim()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = model.loss(views)["loss"]
    model.masking.init_weights()
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(model.loss(views)["loss"].item(), rel=0.02)


def test_device_moves_and_casts_reach_the_teacher(tiny_mim):
    model = tiny_mim().double()
    assert model.bank["teacher"].backbone.cls_token.dtype == torch.float64


def test_pictures(tiny_mim, views):
    features = tiny_mim().visualize(views)
    assert features["mask"].shape == (3, 16) and features["grid"] == (4, 4)
    assert features["target"].shape == features["prediction"].shape == (3, 16, 48)
    assert "reconstruction" not in features
    model = tiny_mim(
        teacher=dict(type="mimseg.PixelTeacher"),
        normalization=dict(type="mimseg.TokenLayerNorm", unbiased=True),
    )
    shown = model.visualize(views)
    raw = model.bank["teacher"](views["teacher"], model.objectives["loss"].teacher_needs)
    normalization = model.objectives["loss"].normalization
    exact = normalization.denormalize(shown["target"], raw)
    image = model.bank["teacher"].to_image(exact, (4, 4))
    torch.testing.assert_close(image, views["student"], atol=1e-4, rtol=1e-4)
    assert shown["reconstruction"].shape == image.shape


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(teacher=None), "model.teacher"),
        (dict(positions="hidden"), "positions"),
        (dict(objectives=[slots("a")]), "model.objectives"),
        (dict(masking=dict(type="mimseg.RandomMasking", ratio=1.5)), "masking.ratio"),
    ],
)
def test_bad_configs_name_the_key(tiny_mim, options, message):
    with pytest.raises(UserError, match=message):
        tiny_mim(**options)


def test_a_grid_that_does_not_match_is_told(tiny_mim, views):
    model = tiny_mim()
    views["teacher"] = torch.rand(3, 3, 48, 48)
    with pytest.raises(UserError, match="grid"):
        model.loss(views)


@pytest.mark.parametrize(
    "options, words",
    [
        (dict(head=dict(type="mimseg.LinearHead")), "DecoderHead.*mask_mode='token'"),
        (dict(head=dict(type="mimseg.DecoderHead", out_channels=47)), "out_channels.*47.*48"),
        (dict(normalization=dict(type="mimseg.NoNormalization", ids=True)), "teacher.*ids"),
        (dict(normalization=dict(type="mimseg.TokenLayerNorm", layers=(7,))), "layer = 7"),
        (
            dict(
                masking=None,
                head=dict(type="mimseg.RelationHead"),
                normalization=dict(type="mimseg.NoNormalization", layers=()),
                backbone=dict(type="mimseg.ViT", arch=TINY, img_size=32, last_block_heads=6),
                teacher=dict(type="mimseg.ViTTeacher", backbone=dict(type="mimseg.ViT", arch=TINY)),
            ),
            "last_block_heads = 6.*teacher's block -1, 4",
        ),
        (
            dict(
                masking=None,
                head=dict(type="mimseg.RelationHead", teacher_layer=17),
                normalization=dict(type="mimseg.NoNormalization", layers=()),
            ),
            "layer = 17.*3 blocks",
        ),
        (
            dict(
                masking=dict(type="mimseg.RandomMasking", num_masks=2),
                loss=dict(type="mimseg.InfoNCELoss"),
            ),
            "num_masks = 2.*InfoNCE",
        ),
        (dict(masking=dict(type="mimseg.RandomMasking", num_masks=0)), "num_masks = 0"),
        (dict(teacher=dict(type="mimseg.PixelTeacher"), with_cls=True), "with_cls.*CLS token"),
        (dict(teachers=dict(a=dict(type="mimseg.PixelTeacher"))), "model.teachers"),
        (dict(objectives=[]), "model.objectives = 0"),
        (dict(normalization=dict(type="mimseg.TokenLayerNorm", layers=())), "layers"),
        (dict(loss=dict(type="mimseg.SmoothL1Loss", beta=-1)), "loss.beta = -1"),
    ],
)
def test_slots_that_do_not_fit_are_told_when_they_are_built(tiny_mim, options, words):
    with pytest.raises(UserError, match=words):
        tiny_mim(init=False, **options)


def test_views_that_cannot_meet_are_told_before_the_first_batch(tiny_mim):
    model = tiny_mim()
    model.check_views({"student": (32, 32)})
    with pytest.raises(UserError, match=r"teacher \(teacher\).*6x6.*4x4.*input_size"):
        model.check_views({"student": (32, 32), "teacher": (48, 48)})
    with pytest.raises(UserError, match="masking.ratio"):
        model.check_views({"student": (8, 8)})
    small = tiny_mim(teacher=dict(type="mimseg.ViTTeacher", input_size=32))
    small.check_views({"student": (32, 32), "teacher": (48, 48)})


TIMM = dict(type="mimseg.TimmTeacher", model="vit_tiny_patch16_224", weights="random")
SMALL = dict(embed_dim=24, depth=1, num_heads=2)
CLIP = dict(
    type="mimseg.OpenCLIPTeacher",
    weights="random",
    model=dict(
        embed_dim=12,
        vision_cfg=dict(image_size=64, layers=1, width=24, head_width=12, patch_size=16),
    ),
)


@pytest.mark.parametrize("named", [False, True])
@pytest.mark.parametrize(
    ("teacher", "view"),
    [
        (dict(type="mimseg.ViTTeacher"), 48),
        (TIMM | dict(model_kwargs=SMALL), 32),  # built for 224
        (TIMM | dict(model_kwargs=SMALL | dict(img_size=32)), 32),
        (TIMM | dict(model_kwargs=SMALL | dict(dynamic_img_size=True)), 32),
        (TIMM | dict(model="resnet10t", stage=2), 64),
        (CLIP, 32),
        (CLIP | dict(img_size=32), 32),
        (dict(type="mimseg.HOGTeacher", patch_size=16), 32),
        (dict(type="mimseg.PixelTeacher", patch_size=16), 32),
    ],
)
def test_the_settings_that_an_error_names_give_the_students_grid(tiny_mim, teacher, view, named):
    def made(teacher):
        if not named:
            return tiny_mim(teacher=teacher)
        empty = dict(teacher=None, normalization=None, head=None, loss=None)
        return tiny_mim(**empty, objectives=[slots("net")], teachers=dict(net=teacher))

    sizes = {"student": (32, 32), "teacher": (view, view)}
    with pytest.raises(UserError, match="student's grid 4x4") as caught:
        made(teacher).check_views(sizes)
    where = "model.teachers.net." if named else "model.teacher."
    settings = dict(text.split("=") for text in caught.value.fix.split())
    assert settings and all(key.startswith(where) for key in settings)
    cfg = Config(dict(teacher=teacher))
    cfg.merge_from_dict({f"teacher.{k.removeprefix(where)}": int(v) for k, v in settings.items()})
    model = made(cfg.to_dict()["teacher"])
    model.check_views(sizes)
    losses = model.loss(
        {"student": torch.rand(2, 3, 32, 32), "teacher": torch.rand(2, 3, view, view)}
    )
    assert all(torch.isfinite(loss) for loss in losses.values())


def test_flat_keys_beside_objectives_are_refused(tiny_mim):
    empty = dict(teacher=None, normalization=None, head=None, loss=None)
    given = dict(objectives=[slots("a")], teachers=dict(net=dict(type="mimseg.PixelTeacher")))
    tiny_mim(init=False, **empty, **given)
    for extra in (dict(positions="all"), dict(with_cls=True)):
        with pytest.raises(UserError, match="write those into each objective"):
            tiny_mim(init=False, **empty, **given, **extra)


@pytest.mark.parametrize(
    "normalization",
    [
        dict(type="mimseg.SoftmaxNormalization", center_momentum=0.9),
        dict(type="mimseg.PHISNormalization", warmup_steps=1),
        dict(type="mimseg.TokenLayerNorm"),
    ],
)
def test_an_averaged_copy_of_the_model(tiny_mim, views, normalization):
    """mmengine's EMAHook copies the model before the first batch and then every buffer."""
    model = tiny_mim(normalization=normalization)
    average = ExponentialMovingAverage(model, momentum=0.5)
    model.train()
    model.loss(views)
    average.update_parameters(model)
    for name, buffer in model.objectives.named_buffers():
        torch.testing.assert_close(average.module.objectives.get_buffer(name), buffer)
    saved = [key for key in model.state_dict() if key.startswith("teachers.")]
    assert len(saved) > 30
    assert not [key for key in average.state_dict() if "teachers." in key]  # once is enough


def test_a_picture_is_no_training_step(tiny_mim, views):
    model = tiny_mim(normalization=dict(type="mimseg.PHISNormalization", warmup_steps=5)).train()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    first = model.visualize(views)["mask"]
    assert torch.equal(model.visualize(views)["mask"], first)
    after = model.state_dict()
    assert all(torch.equal(value, after[key]) for key, value in before.items())
    assert model.training and model.objectives["loss"].normalization.training
    model.loss(views)
    assert int(model.masking.step) == 1


def test_a_teacher_of_our_own_guides_masks(tiny_mim, views):
    masking = dict(type="mimseg.AttentionMasking", ratio=0.75)
    model = tiny_mim(
        masking=masking,
        backbone=dict(
            type="mimseg.ViT", arch=TINY, img_size=32, patch_size=8, rel_pos_bias="shared"
        ),
    )
    net = model.bank["teacher"].backbone
    torch.nn.init.normal_(net.rel_pos_bias.relative_position_bias_table)
    needs = Needs(layers=frozenset({-1}), attention=True)
    out = model.bank["teacher"](views["teacher"], needs)
    images = (views["teacher"] - model.mean) / model.std
    _, taps, qkv = net.tap(images, Needs(qkv=frozenset({2})))
    q, k, _ = qkv[2]
    bias = net.relative_bias(net.rel_pos_bias.relative_position_bias_table, (4, 4))
    scores = (q @ k.transpose(-2, -1) * 12**-0.5 + bias).softmax(-1)
    torch.testing.assert_close(out.attention, scores.mean(1)[:, 0, 1:])
    assert not out.qkv and model.loss(views)["loss"] > 0
