"""Saving survives a kill at any moment, a full disk, and a moved work dir."""

import os
import shutil
from pathlib import Path
from threading import Event

import pytest
import torch
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from mmengine.runner import Runner
from torch import nn

from mimseg.checkpoints.checksum import damage
from mimseg.checkpoints.files import fault, find_resumable, read_checkpoint
from mimseg.engine import checkpoint_hook
from mimseg.errors import UserError

COUNT = iter(range(10_000))


class Killed(BaseException):
    """Stands for a kill: nothing in the hook may catch and mend it."""


class Toy(BaseModel):
    def __init__(self):
        super().__init__()
        self.backbone = nn.Linear(3, 2)

    def forward(self, inputs, data_samples=None, mode="loss"):
        return {"loss": self.backbone(torch.stack(inputs)).pow(2).mean()}


class Data(torch.utils.data.Dataset):
    metainfo = {"classes": ("a", "b")}

    def __len__(self):
        return 64

    def __getitem__(self, index):
        return {"inputs": torch.randn(3)}


def make_runner(work_dir, iters=8, resume_from=None, **hook):
    hook = {"type": "mimseg.CheckpointHook", "by_epoch": False, "interval": 2, **hook}
    return Runner(
        Toy(),
        work_dir=str(work_dir),
        train_dataloader={
            "dataset": Data(),
            "batch_size": 2,
            "num_workers": 0,
            "sampler": {"type": "InfiniteSampler"},
        },
        train_cfg={"by_epoch": False, "max_iters": iters},
        optim_wrapper={"optimizer": {"type": "AdamW", "lr": 0.1}},
        param_scheduler=[{"type": "LinearLR", "by_epoch": False, "end": 3}],
        default_hooks={"checkpoint": hook, "logger": {"type": "LoggerHook", "interval": 100}},
        load_from=resume_from,
        resume=resume_from is not None,
        experiment_name=f"hook{next(COUNT)}",
        log_level="ERROR",
    )


def names(folder):
    """The checkpoints in a folder, temporary ones included."""
    paths = [path for path in Path(folder).iterdir() if path.suffix != ".sha256"]
    return sorted(p.name for p in paths if "ep" in p.name or "iter" in p.name)


def all_whole(folder):
    """Whether each checkpoint is as its checksum says, and there is no checksum without one."""
    paths = {path for path in Path(folder).iterdir() if path.suffix == ".pth"}
    sums = {path.with_suffix("") for path in Path(folder).glob("*.sha256")}
    return paths == sums and not any(map(damage, paths))


def test_keeps_two_and_writes_what_mmengine_writes(tmp_path):
    runner = make_runner(tmp_path)
    runner.train()
    assert names(tmp_path) == ["iter_6.pth", "iter_8.pth"]
    assert (tmp_path / "last_checkpoint").read_text() == str(tmp_path / "iter_8.pth")
    saved = read_checkpoint(tmp_path / "iter_8.pth")
    assert torch.equal(saved["state_dict"]["backbone.weight"], runner.model.backbone.weight)
    assert saved["meta"]["iter"] == 8 and "optimizer" in saved and "param_schedulers" in saved
    assert not list(tmp_path.glob(".*")) and all_whole(tmp_path)


def test_nothing_is_removed_before_the_new_one_is_in_place(tmp_path, monkeypatch):
    seen = []
    replace = os.replace

    def spy(source, target):
        if not str(target).endswith(".sha256"):
            seen.append((Path(target).name, [p for p in names(tmp_path) if not p.startswith(".")]))
        assert Path(source).parent == Path(target).parent
        replace(source, target)

    monkeypatch.setattr(checkpoint_hook.os, "replace", spy)
    make_runner(tmp_path, iters=6, max_keep_ckpts=1).train()
    assert [name for name, _ in seen] == [
        "iter_2.pth", "last_checkpoint",
        "iter_4.pth", "last_checkpoint",
        "iter_6.pth", "last_checkpoint",
    ]  # fmt: skip
    before = {name: kept for name, kept in seen if name != "last_checkpoint"}
    assert before["iter_4.pth"] == ["iter_2.pth"] and before["iter_6.pth"] == ["iter_4.pth"]
    # `last_checkpoint` is replaced while both the old and the new one are there
    assert seen[3] == ("last_checkpoint", ["iter_2.pth", "iter_4.pth"])


@pytest.mark.parametrize("asynchronous", [False, True])
@pytest.mark.parametrize("moment", ["while writing", "before the rename", "before removing"])
def test_killed_run_resumes_and_ends_clean(tmp_path, monkeypatch, moment, asynchronous):
    def die_at_six(self, runner, name, *args, **options):
        if name == "iter_6.pth":
            self._wait()  # as a save does first
            half = Path(self.out_dir) / ".iter_6.pth.saving"
            half.write_bytes((Path(self.out_dir) / "iter_4.pth").read_bytes()[:200])
            raise Killed
        return original(self, runner, name, *args, **options)

    with monkeypatch.context() as patch:
        hook = checkpoint_hook.CheckpointHook
        if moment == "while writing":
            original = hook._save_atomically
            patch.setattr(hook, "_save_atomically", die_at_six)
        elif moment == "before the rename":
            replace = os.replace

            def die_on_rename(source, target):
                if str(target).endswith("iter_6.pth"):
                    raise Killed
                replace(source, target)

            patch.setattr(checkpoint_hook.os, "replace", die_on_rename)
        else:

            def die_on_remove(self, name):
                if name == "iter_2.pth":
                    raise Killed

            patch.setattr(hook, "_remove", die_on_remove)
        with pytest.raises(Killed):
            make_runner(tmp_path, asynchronous=asynchronous).train()
    newest = "iter_6.pth" if moment == "before removing" else "iter_4.pth"
    found = find_resumable(tmp_path)
    assert Path(found).name == newest
    assert {"iter_2.pth", "iter_4.pth"} <= set(names(tmp_path))
    runner = make_runner(tmp_path, resume_from=found)
    runner.train()
    assert runner.iter == 8
    assert names(tmp_path) == ["iter_6.pth", "iter_8.pth"]
    assert not list(tmp_path.glob(".*")) and all_whole(tmp_path)


def test_a_broken_newest_one_is_passed_over(tmp_path):
    make_runner(tmp_path, iters=4).train()
    whole = (tmp_path / "iter_4.pth").read_bytes()
    (tmp_path / "iter_4.pth").write_bytes(whole[: len(whole) // 2])
    assert fault(tmp_path / "iter_4.pth")
    found = find_resumable(tmp_path)
    assert Path(found).name == "iter_2.pth"
    make_runner(tmp_path, iters=4, resume_from=found).train()
    assert not fault(tmp_path / "iter_4.pth")


@pytest.mark.parametrize("asynchronous", [False, True])
def test_full_disk_keeps_the_previous_one_and_names_the_path(tmp_path, monkeypatch, asynchronous):
    from mmengine.fileio import LocalBackend

    put = LocalBackend.put

    def full(self, obj, filepath):
        if "iter_4" in str(filepath):
            put(self, obj[:100], filepath)
            raise OSError(28, "No space left on device")
        put(self, obj, filepath)

    monkeypatch.setattr(LocalBackend, "put", full)
    with pytest.raises(UserError, match="iter_4.pth.*No space left") as error:
        make_runner(tmp_path, max_keep_ckpts=1, asynchronous=asynchronous).train()
    assert "Fix:" in str(error.value)
    assert names(tmp_path) == ["iter_2.pth"] and not list(tmp_path.glob(".*"))
    assert Path(find_resumable(tmp_path)).name == "iter_2.pth"


def test_steps_go_on_while_a_checkpoint_is_written(tmp_path, monkeypatch):
    """The file holds the weights of its step, and the record comes when it is in place."""
    from mmengine.fileio import LocalBackend

    put, gate, steps, weights = LocalBackend.put, Event(), [], {}

    def slow(self, obj, filepath):
        assert gate.wait(20)
        put(self, obj, filepath)

    class Spy(Hook):
        def after_train_iter(self, runner, **kwargs):
            steps.append(sorted(path.name for path in tmp_path.glob("iter_*.pth")))
            weights[runner.iter + 1] = runner.model.backbone.weight.detach().clone()
            if runner.iter == 2:
                gate.set()

    monkeypatch.setattr(LocalBackend, "put", slow)
    runner = make_runner(tmp_path, iters=4, asynchronous=True)
    runner.register_hook(Spy(), priority="LOWEST")
    runner.train()
    assert steps[:3] == [[], [], []]  # the third step ran before the second's file was there
    for step in (2, 4):
        saved = read_checkpoint(tmp_path / f"iter_{step}.pth")["state_dict"]
        assert torch.equal(saved["backbone.weight"], weights[step])
    assert (tmp_path / "last_checkpoint").read_text().endswith("iter_4.pth")
    assert not list(tmp_path.glob(".*")) and all_whole(tmp_path)


def test_unwritable_folder_is_told_before_training(tmp_path):
    (tmp_path / "out").write_text("a file where the folder should be")
    steps = []
    runner = make_runner(tmp_path / "run", out_dir=str(tmp_path / "out"))
    runner.model.register_forward_hook(lambda *_: steps.append(1))
    with pytest.raises(UserError, match="out"):
        runner.train()
    assert not steps


def save_best(runner, step, **metrics):
    hook = next(h for h in runner.hooks if isinstance(h, checkpoint_hook.CheckpointHook))
    if not hasattr(hook, "file_backend"):
        hook.before_train(runner)
    runner.train_loop._iter = step
    hook.after_val_epoch(runner, metrics)
    return hook


def built(work_dir, **hook):
    runner = make_runner(work_dir, **hook)
    runner.optim_wrapper = runner.build_optim_wrapper(runner.optim_wrapper)
    runner._train_loop = runner.build_train_loop(runner._train_loop)
    runner.param_schedulers = runner.build_param_scheduler(runner.param_schedulers)
    return runner


def test_save_best_keeps_the_best_until_the_better_one_is_there(tmp_path, monkeypatch):
    runner = built(tmp_path, save_best="seg/mIoU", rule="greater")
    save_best(runner, 2, **{"seg/mIoU": 10.0})
    save_best(runner, 4, **{"seg/mIoU": 9.0})
    assert names(tmp_path) == ["best_seg_mIoU_iter_2.pth"]

    monkeypatch.setattr(
        checkpoint_hook.os, "replace", lambda *_: (_ for _ in ()).throw(OSError(28, "full"))
    )
    with pytest.raises(UserError, match="best_seg_mIoU_iter_6.pth"):
        save_best(runner, 6, **{"seg/mIoU": 11.0})
    assert names(tmp_path) == ["best_seg_mIoU_iter_2.pth"]


def test_save_best_replaces_and_tells_the_newest_checkpoint(tmp_path):
    runner = built(tmp_path, save_best=["mIoU", "loss"])
    hook = save_best(runner, 2, mIoU=10.0, loss=1.0)
    hook._save_checkpoint_with_step(runner, 2, {"epoch": 0, "iter": 2})
    save_best(runner, 4, mIoU=11.0, loss=2.0)
    assert names(tmp_path) == [
        "best_loss_iter_2.pth", "best_mIoU_iter_4.pth", "iter_2.pth", "iter_4.pth",
    ]  # fmt: skip
    info = read_checkpoint(tmp_path / "iter_4.pth")["message_hub"]["runtime_info"]
    assert info["best_score_mIoU"] == 11.0 and info["best_ckpt_mIoU"].endswith("mIoU_iter_4.pth")
    with pytest.raises(UserError, match="save_best.*mIoU.*one of the metrics: acc"):
        save_best(runner, 6, acc=1.0)


def test_a_copied_work_dir_leaves_the_original_alone(tmp_path):
    runner = built(tmp_path / "a", save_best="mIoU")
    hook = save_best(runner, 2, mIoU=1.0)
    hook._save_checkpoint_with_step(runner, 2, {"epoch": 0, "iter": 2})
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    other = built(tmp_path / "b", save_best="mIoU")
    other.resume(find_resumable(tmp_path / "b"))
    save_best(other, 4, mIoU=2.0)
    assert "best_mIoU_iter_2.pth" in names(tmp_path / "a")
    assert names(tmp_path / "b") == ["best_mIoU_iter_4.pth", "iter_2.pth"]
