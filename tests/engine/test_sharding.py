"""A run that is sharded over processes (FSDP2) trains and resumes as one that is not."""

import re
import signal

import pytest
import torch
from mmengine.dist import init_dist
from mmengine.optim import OptimWrapper

from dev.trial import Interrupt, Trial, difference, fork, import_all, make_data, train_trial
from mimseg.checkpoints.files import find_resumable, read_checkpoint
from mimseg.engine.amp_optim_wrapper import bf16_supported
from mimseg.engine.sharding import Sharding, shard
from mimseg.engine.signals import RESUMABLE
from mimseg.errors import UserError
from mimseg.outputs import Needs
from mimseg.registry import MODELS
from mimseg.students.vit import ViT

TWO = Trial("mae", processes=2)
OPTIONS = {"model.backbone.drop_path_rate": 0.0}
FSDP = OPTIONS | {"fsdp": True}
PARTS = OPTIONS | {
    "fsdp": {"checkpoint": "sharded"},
    "default_hooks.checkpoint.asynchronous": True,
}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    import_all()
    return make_data(tmp_path_factory.mktemp("sharding") / "data")


@pytest.fixture(scope="module")
def whole(data, tmp_path_factory):
    """A run of two processes without sharding."""
    out = tmp_path_factory.mktemp("sharding") / "whole"
    assert train_trial(TWO, data, out, options=OPTIONS) == [0, 0]
    return out


def close(one, two):
    one, two = (read_checkpoint(find_resumable(folder)) for folder in (one, two))
    assert one["meta"]["iter"] == two["meta"]["iter"]
    for name, value in one["state_dict"].items():
        if not name.endswith("attn.qkv.bias"):  # of which k's third has no gradient but rounding
            torch.testing.assert_close(two["state_dict"][name], value, rtol=1e-3, atol=1e-5)
    return one, two


def test_it_trains_as_without_and_resumes_in_any_way(data, whole, tmp_path):
    run, stop = tmp_path / "run", Interrupt("", 4, signal.SIGTERM)
    assert train_trial(TWO, data, run, False, stop, PARTS) == [RESUMABLE] * 2
    assert len(list((run / "step_4.shards").iterdir())) == 2
    share, total = re.search(
        r"sharded +([\d.]+) M of ([\d.]+) M", (tmp_path / "run.log").read_text()
    ).groups()
    assert float(share) == pytest.approx(float(total) / 2, rel=0.1)
    # resumed unsharded by one process, then sharded by two
    stop = Interrupt("", 8, signal.SIGTERM)
    assert train_trial(Trial("mae"), data, run, True, stop, OPTIONS) == [RESUMABLE]
    assert not list(run.glob("*.shards"))  # a newer checkpoint is in place
    assert train_trial(TWO, data, run, True, None, FSDP) == [0, 0]
    one, two = close(whole, run)
    assert two["optimizer"]["state"].keys() == one["optimizer"]["state"].keys()
    moments = (c["optimizer"]["state"][5]["exp_avg"] for c in (one, two))
    torch.testing.assert_close(*moments, rtol=1e-2, atol=1e-5)
    torch.load(find_resumable(run), weights_only=True)


def test_a_sharded_run_is_resumed_bit_for_bit(data, tmp_path):
    assert train_trial(TWO, data, tmp_path / "whole", options=FSDP) == [0, 0]
    run, stop = tmp_path / "run", Interrupt("", 8, signal.SIGTERM)
    assert train_trial(TWO, data, run, False, stop, PARTS) == [RESUMABLE] * 2
    assert train_trial(TWO, data, run, True, None, PARTS) == [0, 0]
    assert difference(tmp_path / "whole", run) == ""


def test_a_stage_hands_a_sharded_student_over(data, tmp_path):
    trial = Trial("dbot", processes=2)
    short = {"train_cfg.max_epochs": 1}
    sharded = PARTS | {"fsdp": {"checkpoint": "sharded", "teachers": "sharded"}}
    for name, options in (("whole", OPTIONS), ("sharded", sharded)):
        assert train_trial(trial, data, tmp_path / name, options=options | short) == [0, 0]
    close(tmp_path / "whole/stage2", tmp_path / "sharded/stage2")


def test_gradients_on_their_way_are_saved_whole(data, tmp_path):
    """An epoch of 6 steps ends between two optimizer steps where 4 are accumulated."""
    trial, kill = Trial("mae", processes=2, accumulation=4), Interrupt("", 7, signal.SIGKILL)
    assert train_trial(trial, data, tmp_path / "whole", options=OPTIONS) == [0, 0]
    run = tmp_path / "run"
    assert train_trial(trial, data, run, False, kill, FSDP) == [-signal.SIGKILL] * 2
    assert train_trial(trial, data, run, True, None, FSDP) == [2, 2]  # refused, by name
    assert "gradients under way" in (tmp_path / "run.log").read_text()
    assert train_trial(trial, data, run, True, None, OPTIONS) == [0, 0]
    close(tmp_path / "whole", run)


@pytest.mark.skipif(not bf16_supported("cpu"), reason="no bfloat16 on this CPU, nor a GPU")
def test_mixed_precision(data, tmp_path):
    trial = Trial("mae", processes=2, bf16=True)
    short = {"train_cfg.max_epochs": 1}
    losses = []
    half = OPTIONS | {"fsdp": {"param_dtype": "bfloat16", "reduce_dtype": "bfloat16"}}
    for name, options in (("whole", OPTIONS), ("sharded", FSDP), ("half", half)):
        assert train_trial(trial, data, tmp_path / name, options=options | short) == [0, 0]
        logs = read_checkpoint(find_resumable(tmp_path / name))["message_hub"]["log_scalars"]
        losses.append(logs["train/loss"]["values"])
    assert losses[1] == pytest.approx(losses[0], rel=1e-3)
    assert losses[2] == pytest.approx(losses[0], rel=1e-2) and losses[2] != losses[1]


@pytest.mark.parametrize(
    ("trial", "options", "words"),
    [
        (Trial("mae"), FSDP, "expected several processes"),
        (TWO, FSDP | {"custom_hooks": [dict(type="EMAHook")]}, "EMAHook keeps one"),
        (TWO, OPTIONS | {"fsdp": {"param_dtype": "bfloat16"}}, "expected 'float32' in a run in"),
        (TWO, FSDP | {"model.backbone.rel_pos_bias": "per_block"}, "rel_pos_bias = 'per_block'"),
    ],
    ids=["one process", "averaged copy", "no autocast", "tables by block"],
)
def test_what_cannot_be_sharded_is_refused(data, tmp_path, trial, options, words):
    assert set(train_trial(trial, data, tmp_path / "run", options=options)) == {2}
    assert words in (tmp_path / "run.log").read_text()


def test_options_by_name():
    assert Sharding.read(True) == Sharding.read({}) == Sharding()
    for value, words in [
        ({"checkpont": "whole"}, "fsdp.checkpont = 'whole'.*did you mean fsdp.checkpoint"),
        ({"teachers": "half"}, r"fsdp.teachers = 'half'.*\['whole', 'sharded'\]"),
        ({"param_dtype": "float16"}, "fsdp.param_dtype = 'float16'.*'bfloat16'"),
        ("sharded", "fsdp = 'sharded': expected True or a dict"),
    ]:
        with pytest.raises(UserError, match=words):
            Sharding.read(value)


class Taps(torch.nn.Module):
    """Tokens of the end, with the query, key and value of a block in the middle."""

    def __init__(self):
        super().__init__()
        self.backbone = ViT("mini", 64, 8, pos_embed="learned")
        self.backbone.init_weights()

    def forward(self, images):
        out = self.backbone.encode(images, needs=Needs(qkv=frozenset({2})))
        return torch.cat([part.flatten() for part in (out.tokens, *out.qkv[2])])


def test_taps_and_another_image_size(tmp_path):
    """Blocks whose insides are asked for, and an evaluation that resizes trained positions."""

    def outputs(sharded):
        torch.manual_seed(0)
        model = Taps()
        wrapper = OptimWrapper(torch.optim.SGD(model.parameters(), lr=1.0))
        if sharded:
            shard(model, wrapper)
        images, larger, seen = torch.randn(2, 3, 64, 64), torch.randn(1, 3, 96, 96), []
        for _ in range(2):
            model.train()
            wrapper.update_params(model(images).square().mean())
            model.eval()
            with torch.no_grad():
                seen.append(model(larger))
        return seen

    def compare():
        init_dist("pytorch", backend="gloo")
        for whole, sharded in zip(outputs(False), outputs(True), strict=True):
            torch.testing.assert_close(sharded, whole, rtol=0, atol=1e-6)
        return 0

    codes = fork(2, compare, tmp_path / "log").wait(60)
    assert codes == [0, 0], (tmp_path / "log").read_text()


@pytest.mark.parametrize("teachers", ["whole", "sharded"])
def test_a_teacher_follows_a_sharded_student(tmp_path, teachers):
    def averages(sharded):
        torch.manual_seed(0)
        model = MODELS.build(
            dict(
                type="mimseg.MaskedImageModeling",
                backbone=dict(type="mimseg.ViT", arch="mini", img_size=32, patch_size=8),
                masking=dict(type="mimseg.RandomMasking", ratio=0.75, seed=1),
                teacher=dict(type="mimseg.EMATeacher", momentum=0.5),
                normalization=dict(type="mimseg.TokenLayerNorm"),
                head=dict(type="mimseg.DecoderHead", embed_dims=32, depth=1, num_heads=4),
                loss=dict(type="mimseg.SmoothL1Loss"),
            )
        )
        model.init_weights()
        wrapper = OptimWrapper(torch.optim.SGD(model.backbone.parameters(), lr=1.0))
        if sharded:
            shard(model, wrapper, Sharding(teachers=teachers))
        teacher, images = model.bank["teacher"], torch.rand(2, 3, 32, 32)
        for _ in range(2):  # without masks, of which each rank draws its own
            wrapper.update_params(model(images, mode="tensor")[0].square().mean())
            teacher.update(model.backbone)
        parts = [value for value in teacher.state_dict().values() if hasattr(value, "to_local")]
        assert bool(parts) == (sharded and teachers == "sharded")
        return {
            name: value.full_tensor() if hasattr(value, "to_local") else value
            for name, value in teacher.state_dict().items()
        }

    def compare():
        init_dist("pytorch", backend="gloo")
        torch.testing.assert_close(averages(True), averages(False), rtol=1e-5, atol=1e-6)
        return 0

    codes = fork(2, compare, tmp_path / "log").wait(60)
    assert codes == [0, 0], (tmp_path / "log").read_text()
