"""Exports the model of a config to ONNX and checks the file."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from mimseg.engine.prepare import merge_options
from mimseg.errors import UserError
from mimseg.export.check import TOLERANCE
from mimseg.export.model import ExportedModel
from mimseg.export.parts import output_names
from mimseg.export.preprocessing import Normalized
from mimseg.export.write import INSTALL, OPSETS, export_onnx
from mimseg.files import report_unwritable
from mimseg.recipes.configs import config as read_config


def export(
    config: str,
    checkpoint: str,
    out: str | Path,
    *,
    what: str = "auto",
    size: Sequence[int] | None = None,
    dynamic: bool = False,
    normalize: bool = False,
    opset: int = OPSETS[0],
    trust: bool = False,
    force: bool = False,
    cfg_options: dict | None = None,
) -> list[str]:
    """Write a model to an ONNX file and check it.

    Args:
        config: a config file.
        checkpoint: a file or a work dir.
        out: a `.onnx` file.
        what: "auto", "classifier", "features" or "segmentor".
        size: (H, W) of the images; None for the config's.
        dynamic: take images of any size, and not of this one alone.
        normalize: put mean and standard deviation into the graph.
        opset: the operators' version.
        trust: unpickle code in the checkpoint.
        force: replace `out`.
        cfg_options: settings that replace the config's.

    Returns:
        Lines that say what was written and how far it is from torch's results.

    Raises:
        UserError: see `ExportedModel.build` and `export_onnx`; or an `out` that is there already.
    """
    out = Path(out).expanduser()
    _check_out(out, force)
    cfg = read_config(config)
    merge_options(cfg, cfg_options or {})
    model = ExportedModel.build(cfg, checkpoint, what, trust)
    size = tuple(size or model.size or ())
    if len(size) != 2 or min(size) < 1:
        raise UserError(
            "--size", list(size), expected="height and width in pixels", fix="--size 512 512"
        )
    module = Normalized(model.module, model.preprocessing) if normalize else model.module
    shapes = [(1, *size), (2, *size)]
    if dynamic:
        shapes[1] = (2, *(max(side, model.least) for side in (size[0] + 7, size[1] // 2 + 3)))
    images = [_draw(n, model.in_channels, side, normalize) for n, *side in shapes]
    try:
        cases = [(x, _run(module, x)) for x in images]
    except (AssertionError, RuntimeError) as error:
        reason = str(error).splitlines()[0][:160] if str(error) else type(error).__name__
        raise UserError(
            "--size", list(size), expected=f"a size that the model takes ({reason})"
        ) from error
    names = output_names(model.what, cases[0][1])
    facts = model.facts | model.preprocessing.facts(normalize)
    out.parent.mkdir(parents=True, exist_ok=True)
    with report_unwritable("OUT", out):
        difference = export_onnx(
            module,
            out,
            cases,
            names,
            opset=opset,
            dynamic=dynamic,
            least=model.least,
            facts=facts,
        )
    sides = f"height, width from {model.least}" if dynamic else f"{size[0]}, {size[1]}"
    lines = [f"OUT: {out}: {model.what}, {out.stat().st_size / 2**20:.1f} MB, opset {opset}"]
    lines += [f"    images (batch, {model.in_channels}, {sides}): {facts['input']}"]
    for name, output in zip(names, cases[0][1], strict=True):
        like = f" for {size[0]} x {size[1]}" if dynamic else ""
        lines += [f"    {name} (batch, {', '.join(map(str, output.shape[1:]))}){like}"]
    if difference is None:
        return [*lines, f"not checked: onnxruntime is not installed ({INSTALL})"]
    sizes = ", ".join("x".join(map(str, shape)) for shape in shapes)
    return [
        *lines,
        f"checked with onnxruntime on random images {sizes}: the largest difference is "
        f"{difference:.1e} of the output's largest value ({TOLERANCE:g} is allowed)",
    ]


def _draw(count: int, channels: int, size: Sequence[int], pixels: bool) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    if pixels:
        return torch.rand(count, channels, *size, generator=generator) * 255
    return torch.randn(count, channels, *size, generator=generator)


@torch.no_grad()
def _run(module: nn.Module, images: Tensor) -> tuple[Tensor, ...]:
    return module(images)


def _check_out(out: Path, force: bool) -> None:
    if out.suffix != ".onnx":
        raise UserError("OUT", str(out), expected="a name that ends in .onnx")
    if out.is_dir():
        raise UserError("OUT", str(out), expected="a file; a folder is there")
    if out.exists() and not force:
        raise UserError(
            "OUT",
            str(out),
            expected="a file that is not there yet",
            fix="--force replaces it, or name another",
        )
    folder = next(parent for parent in out.absolute().parents if parent.exists())
    if not folder.is_dir() or not os.access(folder, os.W_OK):
        raise UserError(
            "OUT", str(out), expected=f"a file that can be written; {folder} takes none"
        )
