"""Writes an estimate as text for a terminal."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable

from mimseg.engine.estimate import Estimate
from mimseg.engine.rate import GPUS

GIB = 1 << 30
_SHOWN = 1 << 16  # bytes of a part that is worth a line: not the mean color of pixels


def report(estimates: list[Estimate], config: str) -> str:
    """The estimates as text for a terminal."""
    lines = [_row("config", config)]
    texts: dict[str, str] = {}
    for one in estimates:
        text = "\n".join(_lines(one))
        same = texts.setdefault(text, one.stage)
        if one.stage:
            lines += ["", f"stage {one.stage}" + (f": as {same}" * (same != one.stage))]
        if same == one.stage:
            lines.append(text)
    times = [one.seconds for one in estimates]
    if len(estimates) > 1:
        disk = _size(sum(one.checkpoint * one.checkpoints for one in estimates))
        length = "" if None in times else f", {_time(sum(times))}"
        lines += ["", _row("all stages", f"{disk} of disk{length}")]
    notes = [_row("", note) for one in estimates for note in _rate_notes(one)]
    return "\n".join([*lines, *dict.fromkeys(notes)])


def _lines(one: Estimate) -> Iterable[str]:
    counts = {name: _count(n) for name, n in one.parameters.items()}
    student = f"student {counts['student']}, heads and necks {counts['head']}"
    student += f", teachers {counts['teacher']}" if one.parameters["teacher"] else ""
    yield _row("parameters", f"{student}, by count")
    yield _row("", f"trained {counts['trained']}, frozen {counts['frozen']}")
    sizes = {f"{height}x{width}" for height, width in one.views.values()}
    together = f", {one.processes} processes" if one.processes > 1 else ""
    added = f", {one.accumulation} accumulated" if one.accumulation > 1 else ""
    pixels = " and ".join(sorted(sizes))
    yield _row("step", f"{one.batch} images of {pixels} px{together}{added}, {one.precision}")
    images = one.processes * one.batch * one.accumulation
    if one.base_batch and one.base_batch != images:
        text = f"the config is written for {one.base_batch} images per step, this is {images}"
        yield _row("", f"{text} (--processes {max(1, one.base_batch * one.processes // images)})")
    cost = one.cost
    share = cost.teacher_flops / cost.flops
    text = f", {share:.0%} of it the teachers'" if share >= 0.005 else ""
    yield _row("FLOPs", f"{_flops(cost.flops / one.batch)} per image, forward and backward{text}")
    yield _row("", f"{_flops(cost.flops)} per step{' of a process' * (one.processes > 1)}")
    yield _row("", f"counted by {cost.method}")
    yield from _memory_lines(one)
    length = f"not known: {one.images_from}"
    if one.steps is not None:
        length = f"{one.steps:,} of {one.processes * one.batch:,} images"
        length += f": {one.epochs} epochs" if one.epochs else ""
        seen = one.steps * one.processes * one.batch
        length += f", {seen / 1e6:,.4g} M" if seen >= 1e6 else f", {seen:,}"
        length += " images in all"
    yield _row("steps", length)
    if one.images is not None:
        yield _row("images", f"{one.images:,} ({one.images_from})")
    kept = one.checkpoint * one.checkpoints
    text = f"{_size(kept)}: {one.checkpoints} checkpoints of {_size(one.checkpoint)}, by count"
    yield _row("disk", f"{text}; up to two more while one is saved")
    yield _time_line(one)


def _memory_lines(one: Estimate) -> Iterable[str]:
    kinds = {"gathered": "estimated: blocks that are whole for a moment, and all outside of them"}
    kinds["activations"] = "estimated: the most at one time in a step on meta tensors"
    if one.sharding:
        for part in ("weights", "gradients", "optimizer"):
            kinds[part] = f"by count, a {one.processes}th of the whole"
    if one.cost.peak is None:
        kinds["activations"] = "not known: the step needs values"
    total = one.total_memory
    known = "not known in all" if total is None else f"{_size(total)}, estimated"
    yield _row("memory", f"{known}; of {'each' if one.processes > 1 else 'the'} process:")
    for part, size in one.memory.items():
        if size is None or size >= _SHOWN:
            value = "?" if size is None else _size(size)
            yield _row("", f"{part:<12}{value:>10}  {kinds.get(part, 'by count')}")
    if one.sharding:
        whole = _size(4 * (one.parameters["student"] + one.parameters["head"]))
        text = f"before it is sharded, each process holds the whole model, {whole}"
        if one.sharding.checkpoint == "whole":
            size = _size(one.checkpoint)
            text += f"; at a save the first one gathers {size} in host memory"
        yield _row("", text)
    if one.gpu is not None and total is not None:
        share = total / one.gpu.memory
        fit = "fits into" if share < 0.9 else "just about fills" if share < 1 else "is too much for"
        room = f"{one.gpu.memory / GIB:.0f} GiB of one {one.gpu.title}"
        yield _row("", f"in all, it {fit} the {room}")


def _time_line(one: Estimate) -> str:
    if one.rate is None:
        return _row("time", "not known without a rate")
    length = "not known without the steps" if one.seconds is None else _time(one.seconds)
    speed = f"{one.rate.images:,.0f}" if one.rate.images >= 100 else f"{one.rate.images:.3g}"
    return _row("time", f"{length}, at {speed} images/s per process, without validation and saving")


def _rate_notes(one: Estimate) -> Iterable[str]:
    if one.rate is None:
        yield f"--measure takes a rate here, --gpu assumes one ({', '.join(GPUS)})"
        return
    yield f"{one.rate.source}: {one.rate.text}"
    if one.rate.source == "assumed" and one.precision == "float32":
        yield "that is with --amp: the config itself trains in float32, which is slower"


def _row(label: str, text: str) -> str:
    indent = dict(initial_indent=f"{label:<15}", subsequent_indent=" " * 15)
    return textwrap.fill(text, 100, break_on_hyphens=False, **indent)


def _count(number: int) -> str:
    return f"{number / 1e9:.2f} B" if number >= 1e9 else f"{number / 1e6:.1f} M"


def _flops(number: float) -> str:
    for power, unit in ((15, "P"), (12, "T"), (9, "G")):
        if number >= 10**power:
            return f"{number / 10**power:.4g} {unit}FLOP"
    return f"{number / 1e6:.4g} MFLOP"


def _size(count: float) -> str:
    return f"{count / GIB:.2f} GiB" if count >= GIB // 10 else f"{count / (1 << 20):.1f} MiB"


def _time(seconds: float) -> str:
    for unit, length in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.1f} {unit}"
    return f"{seconds:.0f} seconds"
