"""What is imported as `mmcv._ext` where mmcv has no compiled ops.

It has what Mask R-CNN and Cascade Mask R-CNN reach in training and testing. mmcv asserts on import
that every op exists, so this module answers every name; an op that is not here raises when called.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NoReturn

from mimseg.compat.mmcv_nms import nms, nms_match, softnms
from mimseg.compat.mmcv_roi_align import roi_align_backward, roi_align_forward

__all__ = ["nms", "nms_match", "roi_align_backward", "roi_align_forward", "softnms"]

HOW_TO_COMPILE = (
    "For mmcv's compiled ops, with torch installed and a C++ compiler (nvcc for CUDA) at hand: "
    "`pip install --no-deps --no-cache-dir --force-reinstall --no-build-isolation onedl-mmcv`; "
    "or install a prebuilt onedl-mmcv wheel that fits your Python, torch and CUDA. "
    "A compiled mmcv._ext is used in place of this stand-in as soon as it is there."
)


def get_compiler_version() -> str:
    """Say what mmcv was compiled with, for environment reports."""
    return "none (mimseg's stand-in on torchvision)"


def get_compiling_cuda_version() -> str:
    """Say which CUDA mmcv was compiled with, for environment reports."""
    return "none (mimseg's stand-in on torchvision)"


def _missing_op(name: str) -> Callable[..., NoReturn]:
    def missing_op(*args, **kwargs) -> NoReturn:
        raise NotImplementedError(
            f"mmcv's op '{name}' needs compiled code, and this mmcv has none: mimseg stands in for "
            f"{', '.join(__all__)} only. {HOW_TO_COMPILE}"
        )

    missing_op.__name__ = missing_op.__qualname__ = name
    return missing_op


def __getattr__(name: str) -> Callable[..., NoReturn]:
    if name.startswith("__"):  # Python's own questions (__path__, __wrapped__) get Python's answer
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    op = globals()[name] = _missing_op(name)
    return op
