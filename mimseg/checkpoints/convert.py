"""Writes a backbone by another library's names."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from mimseg.checkpoints.files import UntrustedCheckpoint, read_checkpoint, resolve_checkpoint
from mimseg.checkpoints.libraries import choose_class
from mimseg.checkpoints.loader import weights_in
from mimseg.checkpoints.recognise import Found, not_recognised, recognise
from mimseg.checkpoints.vit_shape import shape_of
from mimseg.errors import UserError
from mimseg.files import replacing, report_unwritable

_SUFFIXES = (".pth", ".safetensors")


def convert(
    source: str | Path,
    out: str | Path,
    *,
    family: str = "auto",
    to: str = "mimseg",
    model: str = "auto",
    patch_size: int | None = None,
    trust: bool = False,
    force: bool = False,
) -> list[str]:
    """Write the backbone in `source` to `out`.

    Args:
        source: a checkpoint of any known family, or a work dir (its last checkpoint).
        out: a `.pth` file, which holds plain tensors in the usual container, or `.safetensors`.
        family: what `source` must be, one of `families.NAMES`, or "auto".
        to: "mimseg", "timm", "hf" or "mmpretrain".
        model: "vit" or "beit" for one class of the library, "auto" for the first that fits.
        patch_size: resample the patch embedding to this many pixels, see `resize_patches`.
        trust: unpickle code in `source`.
        force: replace `out`.

    Returns:
        Lines that say what was found, what was left out, and what the result fits.

    Raises:
        UserError: nothing known in `source`, a weight that the library's class has no place for,
            or an `out` that is there already or of another kind.
    """
    out = Path(out).expanduser()
    _check_out(out, force)
    path, backbone = read_backbone(source, family=family, trust=trust)
    lines = [f"IN: {path}: {backbone}", f"    {shape_of(backbone.state)}"]
    if patch_size is not None:
        resize_patches(backbone.state, patch_size)
        lines += [f"resampled: {shape_of(backbone.state)}"]
    if to == "mimseg":
        weights = {f"backbone.{name}": value for name, value in backbone.state.items()}
        hint, notes = f"start from it with: mimseg train CONFIG --init {out}", []
    else:
        model_class = choose_class(to, backbone.state, model, key=path)
        weights, notes = model_class.write(backbone.state)
        hint = f"it fits {model_class.constructor(backbone.state)}"
    lines += [f"    {note}" for note in notes]
    write_weights(out, weights, container=to in ("mimseg", "mmpretrain"))
    return [*lines, f"OUT: {out}: {len(weights)} tensors by {to}'s names", f"    {hint}"]


def read_backbone(
    source: str | Path, *, family: str = "auto", trust: bool = False, key: str = "IN"
) -> tuple[str, Found]:
    """The file that `source` names, and the backbone in it.

    Raises:
        UserError: there is none of a known family.
    """
    path = resolve_checkpoint(source, key)
    try:
        checkpoint = read_checkpoint(path, trust, key=key)
    except UntrustedCheckpoint as error:
        fix = "if you trust its origin, --trust loads it"
        raise UntrustedCheckpoint(
            error.key, error.value, expected=error.expected, fix=fix
        ) from error
    weights = weights_in(checkpoint, path, key)
    backbone = recognise(weights, path, key, family)
    if backbone is None:
        raise not_recognised(key, path, weights)
    return path, backbone


def resize_patches(state: dict[str, Tensor], size: int, key: str = "--patch-size") -> None:
    """Resample a ViT's patch embedding, in place, as a 14 px ViT-H wants for a 16 px ViTDet.

    By the pseudo-inverse of bicubic resizing (FlexiViT, arXiv 2212.08013, equation 3): where `size`
    is larger, an enlarged patch gives the token that the patch gave.

    Args:
        state: weights in our names.
        size: pixels of the new patch's side.
        key: the flag or option that errors name.

    Raises:
        UserError: `size` is no size.
    """
    from timm.layers import resample_patch_embed

    if size < 1:
        raise UserError(key, size, expected="a number of pixels from 1")
    name = "patch_embed.projection.weight"
    state[name] = resample_patch_embed(state[name], [size, size])


def write_weights(out: Path, weights: dict[str, Tensor], container: bool = False) -> None:
    """Write tensors to a file, atomically.

    Args:
        container: in a `.pth`, put them under "state_dict", as mmengine does.
    """
    weights = {name: value.contiguous() for name, value in weights.items()}
    with report_unwritable("OUT", out), replacing(out) as temporary:
        if out.suffix == ".safetensors":
            from safetensors.torch import save_file

            save_file(weights, temporary, metadata={"format": "pt"})
        else:
            content = {"meta": {}, "state_dict": weights} if container else weights
            with temporary.open("wb") as stream:  # torch would keep the reason to itself
                torch.save(content, stream)


def _check_out(out: Path, force: bool) -> None:
    if out.suffix not in _SUFFIXES:
        raise UserError("OUT", str(out), expected=f"a name that ends in {' or '.join(_SUFFIXES)}")
    if out.is_dir():
        raise UserError("OUT", str(out), expected="a file; a folder is there")
    if out.exists() and not force:
        raise UserError(
            "OUT",
            str(out),
            expected="a file that is not there yet",
            fix="--force replaces it, or name another",
        )
