"""Checks an ONNX file against the model it was made of."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import torch
from torch import Tensor

from mimseg.errors import UserError

TOLERANCE = 1e-4  # of an output's largest value


def largest_difference(
    path: str | Path, cases: Iterable[tuple[Tensor, tuple[Tensor, ...]]]
) -> float | None:
    """Run a file with onnxruntime on the CPU and compare its outputs.

    Args:
        path: the file, with one input.
        cases: pairs of an input and the outputs that the file should give.

    Returns:
        The largest difference, as a part of the largest value of the output it is in; None where
        onnxruntime is not installed.

    Raises:
        UserError: the file does not run, or gives something else than 1e-4 allows.
    """
    try:
        import onnxruntime
    except ImportError:
        return None
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 4  # errors are raised as well
    largest, session = 0.0, None
    for images, expected in cases:
        try:
            session = session or onnxruntime.InferenceSession(
                str(path), options, providers=["CPUExecutionProvider"]
            )
            outputs = session.run(None, {session.get_inputs()[0].name: images.numpy()})
        except Exception as error:  # onnxruntime's exceptions share no class
            raise _wrong(path, images, str(error).strip().splitlines()[0]) from error
        names = [output.name for output in session.get_outputs()]
        for name, ours, theirs in zip(names, outputs, expected, strict=True):
            if ours.shape != tuple(theirs.shape):
                shapes = f"{name} is {ours.shape} and not {tuple(theirs.shape)}"
                raise _wrong(path, images, shapes)
            scale = float(theirs.abs().max()) or 1.0
            difference = float((torch.from_numpy(ours) - theirs).abs().max()) / scale
            if not difference <= TOLERANCE:  # NaN too
                raise _wrong(path, images, f"{name} differs by {difference:.1e}")
            largest = max(largest, difference)
    return largest


def _wrong(path: str | Path, images: Tensor, what: str) -> UserError:
    expected = f"what torch gives for images {tuple(images.shape)}, to {TOLERANCE:g}; {what}"
    return UserError(
        "OUT",
        Path(path).name,
        expected=expected,
        fix="nothing was written; try another --opset or --size",
    )
