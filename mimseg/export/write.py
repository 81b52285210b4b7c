"""Writes a torch module to an ONNX file."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.export import Dim
from torch.nn.modules.module import register_module_forward_hook

from mimseg.errors import UserError
from mimseg.export.check import largest_difference
from mimseg.export.pooling import free_pools
from mimseg.files import replacing

OPSETS = range(18, 24)  # torch's exporter writes 18 and converts it to those above
INSTALL = "pip install onnx onnxscript onnxruntime"
_ROOT = "mimseg."
_OFF = (64, 32)  # two different sides, or torch would take height and width for one size


def export_onnx(
    module: nn.Module,
    out: Path,
    cases: Sequence[tuple[Tensor, tuple[Tensor, ...]]],
    names: Sequence[str],
    *,
    opset: int = OPSETS[0],
    dynamic: bool = False,
    least: int = 1,
    facts: dict[str, str] | None = None,
) -> float | None:
    """Write a module to a file, checked with onnxruntime before it is moved to its place.

    The graph is torch.export's, which refuses a model whose computation depends on a size that
    was declared free. The older TorchScript exporter would fix the example's size; it also knows
    adaptive pooling only where the bins divide the map.

    Args:
        module: in eval mode, images (B, C, H, W) -> a tuple of tensors.
        out: a `.onnx` file; weights of more than 2 GB go into a `.onnx.data` next to it.
        cases: pairs of images and the module's outputs, to check the file with. The first one's
            channels and size are the example's.
        names: of the outputs.
        opset: the operators' version.
        dynamic: whether height and width are free as well as the batch.
        least: the smallest height and width, where they are free.
        facts: written into the file's metadata.

    Returns:
        See `largest_difference`.

    Raises:
        UserError: onnxscript is missing, torch cannot export the module (for any size), or the
            file gives something else than the module.
    """
    if find_spec("onnxscript") is None or find_spec("onnx") is None:
        raise UserError(
            "onnxscript", None, expected="an installed package, which writes the file", fix=INSTALL
        )
    program = _program(module, cases[0][0].shape, names, opset, dynamic, least)
    for key, value in (facts or {}).items():
        program.model.metadata_props[_ROOT + key] = value
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}.") as folder:
        path = Path(folder) / out.name
        program.save(path)
        difference = largest_difference(path, cases)
        data = path.with_name(f"{out.name}.data")
        with_data = data.exists()
        for file in (data, path) if with_data else (path,):
            with replacing(out.with_name(file.name)) as temporary:
                file.replace(temporary)
        if not with_data:  # what an earlier, larger model left
            out.with_name(data.name).unlink(missing_ok=True)
    return difference


def _program(
    module: nn.Module,
    shape: torch.Size,
    names: Sequence[str],
    opset: int,
    dynamic: bool,
    least: int,
) -> torch.onnx.ONNXProgram:
    axes, size = {0: Dim("batch")}, tuple(shape[2:])
    if dynamic:
        axes |= {i: Dim(name, min=least) for i, name in ((2, "height"), (3, "width"))}
        size = tuple(max(side, least) + off for side, off in zip(size, _OFF, strict=True))
    example = torch.zeros(2, shape[1], *size)
    with torch.no_grad(), warnings.catch_warnings(), free_pools(module), _plain_memory():
        warnings.simplefilter("ignore")
        try:
            graph = torch.export.export(module, (example,), dynamic_shapes=(axes,), strict=False)
            program = torch.onnx.export(
                graph,
                dynamo=True,
                opset_version=opset,
                input_names=["images"],
                output_names=list(names),
                # names alone: the graph's axes are known
                dynamic_shapes=({i: axis.__name__ for i, axis in axes.items()},),
                verbose=False,
            )
        except Exception as error:  # whatever the model's code does with a traced tensor
            raise _refused(error, dynamic) from error
    written = program.model.opset_imports.get("")
    if written != opset:
        raise UserError(
            "--opset", opset, expected=f"{written}, which this model could be written in"
        )
    return program


@contextmanager
def _plain_memory() -> Iterator[None]:
    """Lay out every map that a module gives in the plain order.

    For other orders torch asks how the strides divide, which free sizes do not say.
    """

    def lay_out(module: nn.Module, inputs: tuple, output: object) -> Tensor | None:
        return output.contiguous() if isinstance(output, Tensor) and output.ndim == 4 else None

    handle = register_module_forward_hook(lay_out)
    try:
        yield
    finally:
        handle.remove()


def _refused(error: Exception, dynamic: bool) -> UserError:
    lines = [line.strip(" -") for line in str(error).splitlines() if line.strip(" -")]
    lines.append(type(error).__name__)
    reason = next((line for line in lines if line.startswith("Not all values")), lines[0])
    if dynamic:
        return UserError(
            "--dynamic",
            "given",
            expected=f"a model that does the same for every image size (torch: {reason})",
            fix="leave --dynamic out, and give the --size",
        )
    return UserError("CONFIG", None, expected=f"a model that torch can export ({reason})")
