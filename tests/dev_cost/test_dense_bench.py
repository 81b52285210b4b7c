"""tools/bench/dense.py at a tiny size: both sides run, agree and are counted; what it refuses."""

import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from dev import records
from dev.cost import main as command
from dev.cost.cell import Cell
from dev.cost.dense import comparison, refuse
from dev.cost.memory import PeakMemory
from dev.cost.records import cost_table
from dev.cost.worker import BenchFailure, Worker

ROOT = Path(__file__).parents[2]
CELL = Cell("upernet", "mini", 64, 2)


@pytest.fixture(scope="module")
def smoke(tmp_path_factory):
    """The command's output, and the folder of its records."""
    folder = tmp_path_factory.mktemp("records") / "dense_cost"
    argv = [sys.executable, "tools/bench/dense.py", "--task", "mask-rcnn", "--smoke"]
    argv += ["--threads", "1", "--records", str(folder)]
    done = subprocess.run(argv, cwd=ROOT, env=os.environ, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done, folder


def test_both_sides_compute_the_same_and_are_measured(smoke):
    done, folder = smoke
    rows = [json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))]
    assert [row["model"] for row in rows] == ["mimseg.ViT", "mmpretrain.ViTSAM"]
    for row in rows:
        assert set(row["differences"]) == {"maps", "head", "gradients", "loss"}
        assert max(row["differences"].values()) < 1e-3
        assert len(row["seconds"]) == 2 and min(row["seconds"]) > 0
        assert row["peak_mib"] > 10  # gradients and moments alone need more
        assert row["command"].startswith("python tools/bench/dense.py --task mask-rcnn --smoke")
        assert row["machine"]["cores"] > 0 and row["commit"]
    text = r"mmpretrain.ViTSAM +\S+ \(.* to .*\) s a step, \S+ images/s, peak .*\n  ours / stock: "
    assert re.search(text + r"time x\S+ \(.*\), memory x", done.stdout)
    assert re.search(r"step 3 of 3 \(timed\).*about [\d:]+ left", done.stderr)


def test_the_two_upernets_compute_the_same(tmp_path):
    from dev.cost.side import Side

    ours, stock = (Side(CELL, side) for side in (True, False))
    ours.draw(tmp_path / "weights.pth")
    stock.load(tmp_path / "weights.pth")
    ours.save_outputs(tmp_path / "outputs.pth")
    assert max(stock.differences(tmp_path / "outputs.pth").values()) < 1e-4
    losses = [side.step(seed)["loss"] for seed in (0, 1) for side in (ours, stock)]
    assert losses == pytest.approx([losses[0]] * 2 + [losses[2]] * 2, rel=1e-5)
    with torch.no_grad():  # and a difference in one weight is seen
        stock.model.backbone.layers[2].attn.proj.bias.add_(0.1)
    found = stock.differences(tmp_path / "outputs.pth")
    assert min(found["maps"], found["head"], found["gradients"]) > 2e-3


def test_the_results_table_takes_the_rows(smoke):
    _, folder = smoke
    assert records.main([str(folder.parent)]) == 0
    text = (folder.parent / "README.md").read_text()
    lines = [line for line in text.splitlines() if line.startswith("| Mask R-CNN")]
    assert ["mimseg.ViT" in line for line in lines] == [True, False]
    assert "time x" in lines[0] and "memory x" in lines[0] and "time x" not in lines[1]


@pytest.mark.parametrize(
    "options, words",
    [
        (["--size", "48"], "--size = 48: expected a multiple of 32, at least 64"),
        (["--size", "32"], "at least 64"),
        (["--task", "upernet", "--batch", "1"], "--batch = 1: expected at least 2 for upernet"),
        (["--task", "detr"], "invalid choice: 'detr'"),
        (["--steps", "0"], "0 is not at least 1"),
    ],
)
def test_mistakes_are_told_in_a_line(options, words, capsys):
    try:
        code = command.main([*options, "--smoke"])
    except SystemExit as stop:
        code = stop.code
    assert code == 2
    assert words in capsys.readouterr().err.splitlines()[-1]


def test_what_computes_something_else_is_not_timed():
    fine = dict(maps=1e-6, head=1e-6, gradients=1e-5, loss=0.0)
    refuse(CELL, fine, fine)
    for value in (2e-4, float("nan")):
        with pytest.raises(BenchFailure, match="not timed.*maps"):
            refuse(CELL, fine | dict(maps=value), fine)


def test_in_bf16_ours_is_as_near_to_float32_as_the_stock_model(tmp_path, monkeypatch):
    from dev.cost.side import Side
    from mimseg.engine import amp_optim_wrapper

    # rounding is compared, not speed: torch emulates bf16 where the processor lacks it
    monkeypatch.setattr(amp_optim_wrapper, "bf16_supported", lambda device_type: True)

    half = replace(CELL, task="mask-rcnn", dtype="bf16")
    ours, stock = (Side(half, side) for side in (True, False))
    ours.draw(tmp_path / "weights.pth")
    stock.load(tmp_path / "weights.pth")
    stock.save_outputs(tmp_path / "outputs.pth", exact=True)
    found = [side.differences(tmp_path / "outputs.pth") for side in (ours, stock)]
    assert 1e-4 < found[1]["maps"] < 0.1  # it did round, and a little
    refuse(half, *found)
    with pytest.raises(BenchFailure, match="in float32 over.*maps"):
        refuse(half, found[0] | dict(maps=4 * found[1]["maps"]), found[1])
    refuse(CELL, ours.differences(tmp_path / "outputs.pth", exact=True), found[1])
    with torch.no_grad():
        ours.model.backbone.layers[2].attn.proj.bias.fill_(float("nan"))
    with pytest.raises(BenchFailure, match="maps nan"):
        refuse(half, ours.differences(tmp_path / "outputs.pth"), found[1])


def test_a_side_that_was_killed_is_told():
    with Worker(CELL, ours=False) as worker:
        worker.process.kill()
        worker.process.join()
        with pytest.raises(BenchFailure, match="VisionTransformer ended with code -9: out of mem"):
            worker.ask("peak")


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's mark is Linux's")
def test_the_peak_counts_what_was_freed_again_and_not_what_was_there():
    held = torch.ones(30 << 18)  # 30 MiB
    watch = PeakMemory("cpu")
    passing = torch.ones(50 << 18)
    del passing
    assert 45 < watch.mebibytes() < 70 and held.sum() > 0


def test_the_table_shows_median_range_rate_and_the_paired_ratio():
    common = dict(
        task="mask-rcnn", arch="base", size=1024, batch=2, device="cpu", dtype="float32", threads=2
    )
    common |= dict(checkpointing=False, commit="a" * 40 + "-dirty", machine=dict(cpu="Xeon"))
    common |= dict(differences=dict(maps=2e-6))
    ours = dict(common, model="mimseg.ViT", side="ours", seconds=[4.0, 6.0, 5.0], peak_mib=2048.0)
    stock = dict(common, model="mmpretrain.ViTSAM", side="stock", seconds=[8.0, 8.0, 10.0])
    stock["peak_mib"] = 4096.0
    assert comparison(ours, stock) == "time x0.50 (0.50 to 0.75), memory x0.50"
    _, _, first, second = cost_table([stock, ours]).splitlines()
    assert first.startswith("| Mask R-CNN, 2 x 1024 px | ViT-base/16 | mimseg.ViT | 5.00 (4.00 to ")
    assert "| 0.4 | 2.00 GiB | time x0.50" in first and "maps 2e-06 | aaaaaaaaaa-dirty" in first
    assert "| 0.25 | 4.00 GiB |  |" in second and second.endswith("| Xeon, 2 threads, float32 |")


def test_checkpointing_is_on_for_both_sides(tmp_path):
    from dev.cost.side import Side

    cell = Cell("mask-rcnn", "mini", 64, 1, checkpointing=True)
    runs = {}
    for ours in (True, False):
        side = Side(cell, ours)
        side.draw(tmp_path / "w.pth") if ours else side.load(tmp_path / "w.pth")
        calls = []
        hook = lambda *_, calls=calls: calls.append(1)  # noqa: E731
        side.model.backbone.layers[3].ln1.register_forward_hook(hook)
        side.step(0)
        runs[ours] = len(calls)
    assert runs == {True: 2, False: 2}
