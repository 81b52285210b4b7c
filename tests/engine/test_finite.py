"""A run that diverges ends, keeps its last finite checkpoint, and its step can be repeated."""

import shutil
from pathlib import Path

import pytest
import torch
from mmengine.optim import OptimWrapper
from mmengine.registry import OPTIM_WRAPPERS
from PIL import Image
from torch import nn

from dev.trial import SHORT, Trial, equal, import_all, make_data, train_trial
from mimseg.checkpoints.files import find_resumable, read_checkpoint
from mimseg.cli import main
from mimseg.engine import optim_wrapper, verdict
from mimseg.engine.amp_optim_wrapper import bf16_supported
from mimseg.engine.finite import DIVERGED
from mimseg.normalizations.base import Normalization
from mimseg.registry import MODELS

BLANK = "000_blank.png"


@MODELS.register_module()
class Contrast(Normalization):
    """Tokens over the largest difference between them: a blank image has none, 0 / 0."""

    def __init__(self, eps: float = 0.0) -> None:
        super().__init__()
        self.eps = eps

    def normalize(self, tokens):
        tokens = tokens - tokens[:, 1:2]
        return tokens / (tokens[:, 1:].abs().amax((1, 2), keepdim=True) + self.eps)


@MODELS.register_module()
class Steep(nn.Module):
    """A finite loss with finite gradients, whose squares are not."""

    def forward(self, prediction, target):
        return (prediction - target).abs().mean(-1) * 1e25


CONTRAST = {
    "model.normalization": dict(type="Contrast", _delete_=True),
    "train_cfg.max_epochs": 3,
    "default_hooks.checkpoint.by_epoch": False,
    "default_hooks.checkpoint.interval": 1,
    "default_hooks.logger.interval": 1,
}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    import_all()
    return make_data(tmp_path_factory.mktemp("finite") / "data")


@pytest.fixture
def blank(data, tmp_path):
    """A copy of the data in which one image is blank."""
    copied = tmp_path / "data"
    shutil.copytree(data, copied)
    Image.new("RGB", (64, 64)).save(copied / "unlabelled" / BLANK)
    for path in sorted((copied / "unlabelled").glob("*.jpg"))[-1:]:
        path.unlink()  # as many images as before
    return copied


@pytest.fixture(scope="module")
def diverged(data, tmp_path_factory):
    """The work dir of a run that diverged."""
    out = tmp_path_factory.mktemp("diverged") / "run"
    options = {"optim_wrapper.optimizer.lr": 1e20}
    assert train_trial(Trial("mae"), data, out, options=options) == [1]
    return out


def log(out: Path) -> str:
    return out.with_name(f"{out.name}.log").read_text()


def finite(path: Path) -> bool:
    weights = read_checkpoint(path)["state_dict"].values()
    return all(w.isfinite().all() for w in weights if w.is_floating_point())


def checkpoints(out: Path) -> list[Path]:
    return [path for path in out.glob("*.pth") if path.name != DIVERGED]


@pytest.mark.parametrize("run", ["mae", "upernet"])
def test_a_rate_that_is_far_too_high(run, data, tmp_path):
    """Case 22 as a user meets it."""
    out = tmp_path / "run"
    options = {"optim_wrapper.optimizer.lr": 1e20}
    assert train_trial(Trial(run), data, out, options=options) == [1]
    text = log(out)
    assert "diverged at step" in text and "learning rate" in text and "loss" in text
    assert f"mimseg replay {out}" in text and "Traceback" not in text
    assert not (out / "done.json").exists()
    assert all(map(finite, checkpoints(out)))
    torch.load(out / DIVERGED, weights_only=True)
    assert find_resumable(out) is None and "No checkpoint was saved before" in text
    assert main(["replay", str(out)]) == 0


def test_one_image_ends_a_run(blank, tmp_path, capsys):
    out = tmp_path / "run"
    assert train_trial(Trial("mae"), blank, out, options=CONTRAST) == [1]
    newest = find_resumable(out)
    step = read_checkpoint(newest)["meta"]["iter"]
    assert f"diverged at step {step + 1} of 18" in log(out) and "loss is nan" in log(out)
    assert f"The last finite checkpoint is {newest}" in log(out)
    assert len(checkpoints(out)) == 2 and all(map(finite, checkpoints(out)))
    kept = torch.load(out / DIVERGED, weights_only=True)
    before = read_checkpoint(newest)
    for part in ("state_dict", "optimizer"):  # the state before the step, masks' count included
        assert equal(kept[part], before[part])
    (rank,) = kept["meta"]["diverged"]["ranks"]
    assert any(image.endswith(BLANK) for image in rank["samples"][0]["images"])

    assert main(["replay", str(out)]) == 0
    report = capsys.readouterr().out
    assert f"step           {step + 1} of 18" in report
    assert "forward, in objectives.loss.normalization (Contrast): its output" in report
    (bad,) = [line for line in report.splitlines() if line.endswith("<- not finite")]
    assert BLANK in bad

    assert main(["replay", str(out), "--cfg-options", "model.normalization.eps=1e-6"]) == 1
    assert "not reproduced" in capsys.readouterr().out
    (blank / "unlabelled" / BLANK).rename(blank / "unlabelled" / "zzz.png")
    assert main(["replay", str(out)]) == 2
    assert "the data of the run" in capsys.readouterr().err


def test_a_gradient_whose_norm_alone_overflows(data, tmp_path, capsys):
    out = tmp_path / "run"
    options = {"model.loss": dict(type="Steep", _delete_=True)}
    assert train_trial(Trial("mae"), data, out, options=options) == [1]
    assert "diverged at step 1 of 12" in log(out) and ": the gradient is not finite." in log(out)
    assert main(["replay", str(out)]) == 0
    assert "the norm of the gradient, too large for float32: every value is finite" in (
        capsys.readouterr().out
    )


def test_a_resumed_run_diverges_at_the_same_step_or_passes_over_it(blank, tmp_path):
    out = tmp_path / "run"
    assert train_trial(Trial("mae"), blank, out, options=CONTRAST) == [1]
    assert train_trial(Trial("mae"), blank, out, resume=True, options=CONTRAST) == [1]
    lines = [line for line in log(out).splitlines() if line.startswith("diverged at")]
    assert len(lines) == 2 and lines[0] == lines[1]
    skip = CONTRAST | {"optim_wrapper.skip_nonfinite": 1}
    assert train_trial(Trial("mae"), blank, out, resume=True, options=skip) == [0]
    assert "was skipped, 1 of 1 allowed in a row: loss is nan" in log(out)
    assert (out / "done.json").exists() and all(map(finite, checkpoints(out)))


def test_the_host_learns_of_it_a_step_later(blank, tmp_path, monkeypatch):
    """As on a GPU: the state that is kept, the checkpoints and the message are the same."""
    options = CONTRAST | {"optim_wrapper.optimizer.fused": True}
    assert train_trial(Trial("mae"), blank, tmp_path / "now", options=options) == [1]
    for module in (verdict, optim_wrapper):
        monkeypatch.setattr(module, "is_host", lambda device: False)
    assert train_trial(Trial("mae"), blank, tmp_path / "later", options=options) == [1]
    now, later = (torch.load(tmp_path / name / DIVERGED) for name in ("now", "later"))
    assert equal(now["state_dict"], later["state_dict"])
    assert equal(now["optimizer"]["state"], later["optimizer"]["state"])
    assert now["meta"]["diverged"]["iterations"] == later["meta"]["diverged"]["iterations"]
    names = [sorted(p.name for p in (tmp_path / name).glob("*.pth")) for name in ("now", "later")]
    assert names[0] == names[1]


@pytest.mark.parametrize("bf16", [False, True])
def test_accumulated_on_two_processes(bf16, blank, tmp_path, capsys):
    if bf16 and not bf16_supported("cpu"):
        pytest.skip("no bfloat16 on this CPU")
    out = tmp_path / "run"
    trial = Trial("mae", processes=2, accumulation=2, bf16=bf16)
    assert train_trial(trial, blank, out, options=CONTRAST) == [1, 1]
    kept = torch.load(out / DIVERGED, weights_only=True)["meta"]["diverged"]
    assert len(kept["iterations"]) == 2 and len(kept["ranks"]) == 2 and len(kept["bad_ranks"]) == 1
    assert f"ranks with such a loss: {kept['bad_ranks'][0]}" in log(out)
    assert main(["replay", str(out)]) == 0
    report = capsys.readouterr().out
    assert f"rank           {kept['bad_ranks'][0]} of 2" in report
    assert "objectives.loss.normalization" in report and BLANK in report
    rank = kept["ranks"][kept["bad_ranks"][0]]
    for losses in rank["losses"]:  # the same masks, samples and augmentation: the same losses
        assert f"{losses['loss']:.6g}  (in the run: loss {losses['loss']:.6g})" in report


def test_a_stage_that_diverges_is_named(blank, tmp_path, capsys):
    out = tmp_path / "run"
    options = {"optim_wrapper.optimizer.lr": 1e20, "param_scheduler": SHORT}
    assert train_trial(Trial("dbot"), blank, out, options=options) == [1]
    assert (out / "stage1" / DIVERGED).exists() and not (out / "stage2" / "done.json").exists()
    assert main(["replay", str(out)]) == 2
    assert f"name its stage: {out}/stage1" in capsys.readouterr().err
    assert main(["replay", str(out / "stage1")]) == 0


@OPTIM_WRAPPERS.register_module()
class Foreign(OptimWrapper):
    """A wrapper of another origin, which steps whatever the loss is."""


def test_the_loss_of_another_wrapper_ends_a_run_too(blank, tmp_path):
    out = tmp_path / "run"
    options = CONTRAST | {"optim_wrapper.type": "Foreign"}
    assert train_trial(Trial("mae"), blank, out, options=options) == [1]
    assert "loss is nan" in log(out) and f"checkpoint is {find_resumable(out)}" in log(out)
    assert not (out / DIVERGED).exists() and "replay" not in log(out)
    assert len(checkpoints(out)) == 2 and all(map(finite, checkpoints(out)))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            lambda cfg, at: cfg.replace("'mimseg.PixelTeacher'", f"'os.mkdir', path='{at}'"),
            "a type that is registered",
        ),
        (lambda cfg, at: cfg.replace("data_root=", "ann_file='a.pkl', data_root="), "no pickled"),
        (lambda cfg, at: f"open({str(at)!r}, 'w')\n{cfg}", None),
        (lambda cfg, at: "", "a config of plain values"),
    ],
)
def test_a_config_in_a_file_is_read_as_data(change, said, diverged, tmp_path, capsys):
    """Of a work dir from a stranger nothing is run."""
    marker, out = tmp_path / "marker", tmp_path / "run"
    checkpoint = torch.load(diverged / DIVERGED, weights_only=True)
    before = checkpoint["meta"]["cfg"]
    checkpoint["meta"]["cfg"] = change(before, marker)
    assert checkpoint["meta"]["cfg"] != before
    out.mkdir()
    torch.save(checkpoint, out / DIVERGED)
    assert main(["replay", str(out)]) == (2 if said else 0)
    assert (said or "") in capsys.readouterr().err
    assert not marker.exists()


def test_replay_of_what_did_not_diverge(tmp_path, capsys):
    assert main(["replay", str(tmp_path)]) == 2
    assert f"a run that diverged, with {DIVERGED}" in capsys.readouterr().err
    torch.save({"state_dict": {}}, tmp_path / DIVERGED)
    assert main(["replay", str(tmp_path)]) == 2
    assert "a file that a diverged run wrote" in capsys.readouterr().err


def test_weights_that_are_not_finite_are_never_saved(data, tmp_path):
    """Each gradient was finite: only the last update was too large."""
    out = tmp_path / "run"
    options = {
        "optim_wrapper.optimizer": dict(type="SGD", lr=1e38, weight_decay=1e6, _delete_=True),
        "param_scheduler": [dict(type="LinearLR", start_factor=1e-50, end=3, by_epoch=False)],
        "default_hooks.checkpoint.by_epoch": False,
        "default_hooks.checkpoint.interval": 1,
    }
    assert train_trial(Trial("mae"), data, out, options=options) == [1]
    assert "diverged: after step 2 the weights are not finite" in log(out)
    assert [path.name for path in checkpoints(out)] == ["iter_1.pth"]
    assert finite(out / "iter_1.pth")
