"""The student's moving average: its arithmetic, its schedule, its hook, and the lack of it."""

import copy

import pytest
import torch
from mmengine.hooks import Hook
from mmengine.registry import DefaultScope
from mmengine.runner import Runner
from torch.utils.data import Dataset

from mimseg.errors import UserError

EMA = dict(type="mimseg.EMATeacher", momentum=0.9)
SMALL = dict(
    type="mimseg.ViT",
    arch=dict(embed_dims=48, num_layers=2, num_heads=4, feedforward_channels=96),
    img_size=32,
    patch_size=8,
    mask_mode="token",
    pos_embed="learned",
)


def parts(teacher=EMA):
    return dict(backbone=SMALL, teacher=teacher, head=dict(type="mimseg.LinearHead"))


def step(model, views, optimizer, follow=True):
    loss = model.loss(views)["loss"]
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()
    if follow:
        model.bank["teacher"].update(model.backbone)
    return loss


def test_starts_as_a_copy_and_one_step_moves_it_as_predicted(tiny_mim, views):
    model = tiny_mim(**parts()).train()
    teacher, student = model.bank["teacher"].backbone, model.backbone
    start = {name: value.clone() for name, value in teacher.state_dict().items()}
    given = student.state_dict()
    assert start and all(torch.equal(value, given[name]) for name, value in start.items())
    step(model, views, torch.optim.AdamW(model.parameters(), lr=0.01))
    moved = 0
    for name, value in teacher.named_parameters():
        new = dict(student.named_parameters())[name]
        torch.testing.assert_close(value, 0.9 * start[name] + 0.1 * new, rtol=1e-6, atol=1e-7)
        moved += not torch.equal(value, start[name])
        assert not value.requires_grad and value.grad is None
    assert moved == len(start)
    assert model.bank["teacher"].updates == 1


def test_buffers_are_copied_and_a_short_teacher_follows_its_own_blocks(tiny_mim):
    model = tiny_mim(init=False, **parts(EMA | dict(depth=1)))
    for net in (model.backbone, model.bank["teacher"].backbone):
        net.register_buffer("count", torch.tensor(0.0))
        net.register_buffer("whole", torch.tensor(0))
    model.init_weights()
    model.backbone.count.fill_(3.0)
    model.backbone.whole.fill_(4)
    with torch.no_grad():
        model.backbone.layers[0].ln1.weight.fill_(2.0)
    teacher = model.bank["teacher"]
    teacher.update(model.backbone)
    assert teacher.backbone.count == 3.0 and teacher.backbone.whole == 4
    torch.testing.assert_close(teacher.backbone.layers[0].ln1.weight, torch.full((48,), 1.1))
    assert len(teacher.backbone.layers) == 1


@pytest.mark.parametrize(
    ("options", "total", "expected"),
    [
        (dict(momentum=0.5), None, [0.5, 0.5, 0.5, 0.5]),
        (dict(momentum=0.5, end_momentum=0.9, anneal_steps=2), 100, [0.5, 0.7, 0.9, 0.9]),
        (dict(momentum=0.5, end_momentum=0.9), 4, [0.5, 0.6, 0.7, 0.8]),
    ],
)
def test_the_momentum_grows_linearly_and_stays(tiny_mim, options, total, expected):
    model = tiny_mim(**parts(dict(type="mimseg.EMATeacher") | options))
    teacher = model.bank["teacher"]
    weight = teacher.backbone.layers[0].ln1.weight
    value = 1.0
    for momentum in expected:
        with torch.no_grad():
            model.backbone.layers[0].ln1.weight.fill_(value + 1)
        teacher.update(model.backbone, total)
        value = momentum * value + (1 - momentum) * (value + 1)
        torch.testing.assert_close(weight, torch.full((48,), value))


def test_the_default_momentum_moves_float32(tiny_mim):
    model = tiny_mim(**parts(dict(type="mimseg.EMATeacher")))
    teacher, student = model.bank["teacher"], model.backbone
    with torch.no_grad():
        student.layers[0].ln1.weight.fill_(1.01)
    for _ in range(50):
        teacher.update(student)
    expected = 1.01 - 0.01 * 0.9998**50
    assert teacher.backbone.layers[0].ln1.weight[0].item() == pytest.approx(expected, abs=2e-6)
    model.bfloat16()
    with pytest.raises(UserError, match="float32"):
        teacher.update(student)


def test_checkpoints_hold_the_average_and_its_count(tiny_mim, views):
    options = parts(EMA | dict(end_momentum=1.0, anneal_steps=10))
    model = tiny_mim(**options).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    for _ in range(2):
        step(model, views, optimizer)
    other = tiny_mim(**options).train()
    other.load_state_dict(copy.deepcopy(model.state_dict()))
    ours, theirs = model.bank["teacher"], other.bank["teacher"]
    assert theirs.updates == 2 and "teacher" in other.bank.restored
    for net, teacher in ((model, ours), (other, theirs)):
        with torch.no_grad():
            net.backbone.cls_token.fill_(1.0)
        teacher.update(net.backbone)
    for key, value in ours.state_dict().items():
        assert torch.equal(value, theirs.state_dict()[key]), key


def test_training_without_updates_is_an_error_in_the_second_step(tiny_mim, views):
    model = tiny_mim(**parts()).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=True)
    step(model, views, optimizer, follow=False)
    with pytest.raises(UserError, match="custom_hooks.*mimseg.TeacherUpdateHook"):
        step(model, views, optimizer, follow=False)


def test_what_is_no_step_does_not_ask_for_an_update(tiny_mim, views):
    model = tiny_mim(**parts()).train()
    for _ in range(3):  # an accumulated gradient
        model.loss(views)["loss"].backward()
    model.eval()
    with torch.no_grad():
        model.backbone.cls_token.add_(1.0)
        model.loss(views)
        model.visualize(views)  # evaluation sees a student that changed since: no matter
    model.load_state_dict(model.state_dict())  # as a resumed run does
    model.train()
    for _ in range(2):
        assert model.loss(views)["loss"].isfinite()
    step(model, views, torch.optim.SGD(model.parameters(), lr=0.1))
    assert model.loss(views)["loss"].isfinite()


@pytest.mark.parametrize(
    ("options", "key"),
    [
        (dict(momentum=1.5), "teacher.momentum"),
        (dict(end_momentum=-0.1), "teacher.end_momentum"),
        (dict(anneal_steps=10), "teacher.anneal_steps"),
        (dict(end_momentum=1.0, anneal_steps=0), "teacher.anneal_steps"),
        (dict(backbone=SMALL), "teacher.backbone"),
        (dict(depth=3), "teacher.depth"),
    ],
)
def test_bad_settings_are_named(tiny_mim, options, key):
    with pytest.raises(UserError, match=key):
        tiny_mim(init=False, **parts(EMA | options))


def test_a_schedule_over_a_run_of_unknown_length(tiny_mim):
    model = tiny_mim(**parts(EMA | dict(end_momentum=1.0)))
    with pytest.raises(UserError, match="anneal_steps"):
        model.bank["teacher"].update(model.backbone)


# ---------------------------------------------------------------------- in a Runner


class Noise(Dataset):
    def __len__(self):
        return 8

    def __getitem__(self, index):
        image = torch.rand(3, 32, 32, generator=torch.Generator().manual_seed(index))
        return {"inputs": {"student": image, "teacher": image}}


class Spy(Hook):
    """The student and the teacher after every iteration."""

    priority = "LOW"

    def __init__(self):
        self.seen = []

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        model = getattr(runner.model, "module", runner.model)
        teacher = model.bank["teacher"]
        pick = (model.backbone.cls_token, teacher.backbone.cls_token, teacher.updates)
        self.seen.append([tensor.detach().clone() for tensor in pick])


def runner(tmp_path, model, iters, hooks, accumulate=1, **options):
    spy = Spy()
    built = Runner(
        model=model,
        work_dir=str(tmp_path),
        train_dataloader=dict(
            dataset=Noise(),
            batch_size=2,
            sampler=dict(type="InfiniteSampler", shuffle=False),
            collate_fn=dict(type="default_collate"),
        ),
        train_cfg=dict(by_epoch=False, max_iters=iters),
        optim_wrapper=dict(optimizer=dict(type="AdamW", lr=0.01), accumulative_counts=accumulate),
        default_hooks=dict(checkpoint=dict(type="CheckpointHook", interval=1, by_epoch=False)),
        custom_hooks=hooks,
        default_scope="mmengine",
        experiment_name=f"ema_{torch.rand(()).item()}",
        log_level="ERROR",
        **options,
    )
    built.register_hook(spy)
    return built, spy


HOOK = dict(type="mimseg.TeacherUpdateHook")


@pytest.fixture(autouse=True)
def _scopes():
    yield
    DefaultScope._instance_dict.clear()


class Wrapped(torch.nn.parallel.DistributedDataParallel):
    """What mmengine takes for a wrapper, without a process group."""

    def __init__(self, module):
        torch.nn.Module.__init__(self)
        self.module = module

    def train_step(self, data, optim_wrapper):
        return self.module.train_step(data, optim_wrapper)

    def forward(self, *args, **kwargs):
        return self.module(*args, **kwargs)

    def init_weights(self):
        self.module.init_weights()


@pytest.mark.parametrize("wrap", [False, True])
def test_a_run_of_two_iterations(tiny_mim, tmp_path, wrap):
    model = tiny_mim(**parts(EMA | dict(end_momentum=0.5)))
    built, spy = runner(tmp_path, Wrapped(model) if wrap else model, 2, [HOOK])
    built.train()
    (student1, teacher1, first), (student2, teacher2, second) = spy.seen
    assert (first, second) == (1, 2)
    expected = 0.7 * teacher1 + 0.3 * student2  # 0.9, then half way to 0.5
    torch.testing.assert_close(teacher2, expected, rtol=1e-6, atol=1e-7)
    saved = torch.load(tmp_path / "iter_2.pth", weights_only=False)["state_dict"]
    name = "teachers.teacher.backbone.cls_token"
    key = name if name in saved else f"module.{name}"
    assert torch.equal(saved[key], teacher2)


def test_accumulated_gradients_and_a_rest_at_the_end(tiny_mim, tmp_path):
    built, spy = runner(tmp_path, tiny_mim(**parts()), 5, [HOOK], accumulate=2)
    built.train()
    assert [count.item() for *_, count in spy.seen] == [0, 1, 1, 2, 3]
    for (_, before, _), (student, after, _) in zip(spy.seen[::2], spy.seen[1::2], strict=False):
        torch.testing.assert_close(after, 0.9 * before + 0.1 * student, rtol=1e-6, atol=1e-7)


def test_a_resumed_run_goes_on_with_its_average_and_schedule(tiny_mim, tmp_path):
    options = parts(EMA | dict(end_momentum=0.5, anneal_steps=4))
    whole, spy = runner(tmp_path / "whole", tiny_mim(**options), 4, [HOOK])
    whole.train()
    resume = dict(load_from=str(tmp_path / "whole/iter_2.pth"), resume=True)
    again, resumed = runner(tmp_path / "again", tiny_mim(**options), 4, [HOOK], **resume)
    again.train()
    assert [count.item() for *_, count in resumed.seen] == [3, 4]
    last = spy.seen[1][1]
    for momentum, (student, teacher, _) in zip((0.7, 0.6), resumed.seen, strict=True):
        last = momentum * last + (1 - momentum) * student
        torch.testing.assert_close(teacher, last, rtol=1e-6, atol=1e-7)


def test_a_run_without_the_hook_stops(tiny_mim, tmp_path):
    built, spy = runner(tmp_path, tiny_mim(**parts()), 3, [])
    with pytest.raises(UserError, match="mimseg.TeacherUpdateHook"):
        built.train()
    assert len(spy.seen) == 1


def test_the_hook_leaves_other_teachers_alone(tiny_mim, tmp_path):
    model = tiny_mim(**parts(dict(type="mimseg.ViTTeacher", init="student")))
    teacher = model.bank["teacher"]
    teacher.register_buffer("updates", torch.tensor(0))  # what the spy looks at
    built, spy = runner(tmp_path, model, 2, [HOOK])
    built.train()
    (student1, teacher1, _), (student2, teacher2, _) = spy.seen
    assert torch.equal(teacher1, teacher2) and not torch.equal(student1, student2)
