"""Taps the blocks of a network that is not ours."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager

from torch import Tensor, nn

from mimseg.errors import UserError
from mimseg.outputs import TeacherOutput


def same_size(img_size: object, side: int) -> bool:
    """Whether a size option is unset or says the square of that side."""
    return img_size in (None, side) or (not isinstance(img_size, int) and set(img_size) == {side})


def asked_blocks(layers: Iterable[int], depth: int, model: str) -> dict[int, list[int]]:
    """Block index -> the names it was asked by, such as 11 and -1.

    Raises:
        UserError: no such block.
    """
    asked: dict[int, list[int]] = {}
    for layer in layers:
        if not -depth <= layer < depth:
            expected = f"a block of {model}, 0 to {depth - 1} or -{depth} to -1"
            raise UserError("normalization.layers", layer, expected=expected)
        asked.setdefault(layer % depth, []).append(layer)
    return asked


@contextmanager
def recorded_inputs(modules: Mapping[int, nn.Module]) -> Iterator[dict[int, tuple[Tensor, dict]]]:
    """Record, within the block, the modules' calls: key -> (first argument, keywords)."""
    calls: dict[int, tuple[Tensor, dict]] = {}

    def recorder(key: int):
        def record(_: nn.Module, args: tuple, kwargs: dict) -> None:
            calls[key] = (args[0], kwargs)

        return record

    handles = [
        module.register_forward_pre_hook(recorder(key), with_kwargs=True)
        for key, module in modules.items()
    ]
    try:
        yield calls
    finally:
        for handle in handles:
            handle.remove()


def cls_attention(q: Tensor, k: Tensor, prefix: int, bias: Tensor | None = None) -> Tensor:
    """Attention of the CLS token to the patches, averaged over heads.

    Args:
        q, k: (B, heads, prefix + L, d), CLS first.
        prefix: tokens before the patches. They take their part of the attention, as in the
            network, so that a row sums to less than one.
        bias: what is added to the scores, ([B,] heads, prefix + L, prefix + L).

    Returns:
        (B, L), float32.
    """
    row = attention_weights(q[:, :, :1], k, None if bias is None else bias[..., :1, :])
    return row.mean(dim=1)[:, 0, prefix:]


def attention_weights(q: Tensor, k: Tensor, bias: Tensor | None = None) -> Tensor:
    """softmax(q k / sqrt(d) + bias) in float32.

    Args:
        q, k: (B, heads, Q, d) and (B, heads, K, d).
        bias: what is added to the scores, ([B,] heads, Q, K).

    Returns:
        (B, heads, Q, K).
    """
    scores = q.float() @ k.float().transpose(-2, -1) * q.shape[-1] ** -0.5
    return (scores if bias is None else scores + bias.float()).softmax(dim=-1)


def gather(
    grid: tuple[int, int],
    asked: dict[int, list[int]],
    sequences: dict[int, Tensor],
    prefix: int,
    with_cls: bool,
    **fields,
) -> TeacherOutput:
    """Gather the output of a network with blocks.

    Args:
        grid: (h, w) of the patches.
        asked: block index -> names, see `asked_blocks`.
        sequences: block index -> (B, prefix + L, D).
        prefix: tokens before the patches, of which the first is the CLS token if `with_cls`.
        **fields: the output's other fields.
    """
    tokens, cls = {}, {}
    for index, names in asked.items():
        tokens |= dict.fromkeys(names, sequences[index][:, prefix:])
        if with_cls:
            cls |= dict.fromkeys(names, sequences[index][:, 0])
    return TeacherOutput(grid, tokens=tokens, cls=cls, **fields)
