"""Defines the vision transformer: student, teacher and dense backbone in one class."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from mmengine.model import BaseModule
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from mimseg.data.transform import ImageLike, Transform
from mimseg.errors import UserError
from mimseg.layers.block import TransformerBlock
from mimseg.layers.patch_embed import PatchEmbed
from mimseg.layers.position import is_known, resize_position_embedding, sincos_position_embedding
from mimseg.layers.relative_position import (
    RelativePositionTable,
    relative_position_index,
    resize_relative_table,
    table_size,
)
from mimseg.layers.visible import visible_bias, visible_indices
from mimseg.layers.window import report_padding
from mimseg.outputs import QKV, Needs, StudentOutput
from mimseg.registry import MODELS
from mimseg.students.features import features_of
from mimseg.students.needed import last_block
from mimseg.students.options import arch_settings, block_windows, check_options, drop_path_rates
from mimseg.students.weights import draw_weights, load_pretrained, resize_tables


@MODELS.register_module()
class ViT(BaseModule):
    """Vision transformer (arXiv 2010.11929) for pretraining, segmentation and detection.

    Parameter names are those of mmpretrain's VisionTransformer. Any input size is taken: images are
    padded with zeros (the mean color, normalized) on the right and bottom to a whole number
    of patches, padded patches are ordinary tokens, and `pos_embed` is resized to the grid.

    Args:
        arch: "mini", "tiny", "small", "base", "large", "huge", "giant" (1.0 B parameters),
            "gigantic" (1.8 B; both arXiv 2106.04560), or a dict with embed_dims, num_layers,
            num_heads, feedforward_channels.
        img_size: side, or (H, W), that `pos_embed` is made for.
        patch_size: side of a patch in pixels.
        mask_mode: what happens to a masked patch: "drop" leaves it out (MAE, dBOT), "token" puts a
            learned mask token in its place (BEiT, MaskDistill).
        pos_embed: "sincos" (fixed), "learned" or "none".
        shifted_sampling: resize `pos_embed` to other inputs with the official detection codes'
            sampling, 0.1 of a patch off (see `resize_position_embedding`), to reproduce them.
        rel_pos_bias: relative position bias: "none", "shared" by all blocks, or "per_block".
        rel_pos_resize: how its tables are resized when weights of another grid are loaded:
            "bicubic", or "geometric" as in BEiT's code. Inputs of another size are always bicubic.
        with_cls_token: whether a CLS token is put first.
        window_size: side of the windows, in patches, that attention stays in outside
            `global_blocks` (ViTDet); 0 for none.
        global_blocks: blocks that see the whole image all the same; None takes the last of each
            quarter, as ViTDet does.
        decomposed_rel_pos: whether blocks have ViTDet's decomposed relative positions, zero at
            first. Like windows, they need with_cls_token=False.
        qkv_bias: whether query, key and value have a bias.
        layer_scale: initial layer scale, 0 for none.
        drop_path_rate: drop path rate of the last block.
        drop_path_schedule: "linear" growth from 0 in the first block, or "constant", but 0 in the
            last one (TinyMIM's code).
        last_block_heads: head count of the last block, where it differs (TinyMIM's relations).
        weight_init: "mae" (Xavier uniform) or "beit" (normal, deeper residual branches smaller).
        final_norm: whether the last block's output is normalized.
        norm_eps: epsilon of the layer norms.
        out_indices: blocks whose maps `forward` returns; negative ones count from the end.
        out_type: "featmap", (B, C, h, w) each; "cls_token", (B, C); "avg_featmap", (B, C), the
            patch tokens' mean through a norm of its own, `ln2` (MAE's fine-tuning, with
            final_norm=False); or "raw", (B, [1 +] L, C).
        frozen: train no parameter and stay in eval mode, for probes on fixed features.
        activation_checkpointing: recompute blocks in the backward pass to save memory.
        init_cfg: dict(type="Pretrained", checkpoint=FILE_OR_WORK_DIR), or None for random weights.

    Attributes:
        transform: image -> (3, H, W) as this network takes it; set by `mimseg.load`, else None.
    """

    transform: Transform | None = None

    def __init__(
        self,
        arch: str | dict = "base",
        img_size: int | tuple[int, int] = 224,
        patch_size: int = 16,
        in_channels: int = 3,
        mask_mode: str = "drop",
        pos_embed: str = "sincos",
        shifted_sampling: bool = False,
        rel_pos_bias: str = "none",
        rel_pos_resize: str = "bicubic",
        with_cls_token: bool = True,
        window_size: int = 0,
        global_blocks: Sequence[int] | None = None,
        decomposed_rel_pos: bool = False,
        qkv_bias: bool = True,
        layer_scale: float = 0.0,
        drop_path_rate: float = 0.0,
        drop_path_schedule: str = "linear",
        last_block_heads: int | None = None,
        weight_init: str = "mae",
        final_norm: bool = True,
        norm_eps: float = 1e-6,
        out_indices: Sequence[int] = (-1,),
        out_type: str = "featmap",
        activation_checkpointing: bool = False,
        frozen: bool = False,
        init_cfg: dict | None = None,
    ) -> None:
        options = dict(locals())  # the arguments
        super().__init__(init_cfg)
        arch = arch_settings(arch)
        check_options(options, arch["num_heads"])
        dims, depth, heads = arch["embed_dims"], arch["num_layers"], arch["num_heads"]
        height, width = (img_size, img_size) if isinstance(img_size, int) else img_size
        grid = self.base_grid = (-(-height // patch_size), -(-width // patch_size))
        self.embed_dims, self.num_layers, self.patch_size = dims, depth, patch_size
        self.mask_mode, self.pos_kind, self.out_type = mask_mode, pos_embed, out_type
        self.activation_checkpointing, self.weight_init = activation_checkpointing, weight_init
        self.out_indices = tuple(self.block_index(i) for i in out_indices)
        self.shifted_sampling, self.frozen = shifted_sampling, frozen
        self.rel_pos_kind, self.rel_pos_resize = rel_pos_bias, rel_pos_resize

        self.patch_embed = PatchEmbed(in_channels, dims, patch_size)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, dims)) if with_cls_token else None
        self.mask_token = nn.Parameter(torch.zeros(1, 1, dims)) if mask_mode == "token" else None
        self.pos_embed = None
        if pos_embed != "none":
            table = sincos_position_embedding(grid, dims, with_cls_token)
            self.pos_embed = nn.Parameter(table, requires_grad=pos_embed == "learned")
        shared = rel_pos_bias == "shared"
        self.rel_pos_bias = RelativePositionTable(grid, heads) if shared else None
        rates = drop_path_rates(drop_path_rate, drop_path_schedule, depth)
        windows = block_windows(window_size, global_blocks, depth)
        self.layers = nn.ModuleList(
            TransformerBlock(
                dims,
                (last_block_heads or heads) if index == depth - 1 else heads,
                arch["feedforward_channels"],
                qkv_bias,
                layer_scale,
                rates[index],
                norm_eps,
                table_rows=table_size(grid) if rel_pos_bias == "per_block" else 0,
                window=window,
                axes=((window, window) if window else grid) if decomposed_rel_pos else None,
            )
            for index, window in enumerate(windows)
        )
        self.ln1 = nn.LayerNorm(dims, eps=norm_eps) if final_norm else None
        self.ln2 = nn.LayerNorm(dims, eps=norm_eps) if out_type == "avg_featmap" else None
        if frozen:
            self.requires_grad_(False).eval()

        # not state: what was computed for the grid seen last
        self._resized_pos: tuple | None = None
        self._offsets: dict[tuple, Tensor] = {}
        self._padding_reported = False
        self._register_load_state_dict_pre_hook(self._resize_on_load)

    def train(self, mode: bool = True) -> ViT:
        """Set the mode; a frozen ViT stays in eval mode."""
        mode = mode and not self.frozen
        if mode != self.training:  # sharded weights change without a new version
            self._resized_pos = None
        return super().train(mode)

    # ------------------------------------------------------------------ encode

    def encode(
        self,
        images: Tensor,
        mask: Tensor | None = None,
        needs: Needs = Needs(),  # noqa: B008 (frozen)
        num_masked: int | None = None,
    ) -> StudentOutput:
        """Run the masked images through the blocks.

        Args:
            images: (B, 3, H, W), normalized.
            mask: (B * M, L) bool, True = masked, M masks per image; None for the full image.
            needs: taps to return with the final tokens.
            num_masked: masked patches per mask, where known; saves a device synchronization.

        Raises:
            ValueError: the mask's shape does not fit, or masks to drop by differ in their counts.
        """
        x, grid, visible = self._embed(images, mask, num_masked)
        bias = self._shared_bias(grid)
        x, taps, qkv = self._run_blocks(x, grid, needs, bias, visible)
        if self.ln1 is not None and needs.tokens:
            x = self.ln1(x)
        first = int(self.cls_token is not None)
        return StudentOutput(
            tokens=x[:, first:],
            cls=x[:, 0] if first else None,
            mask=mask,
            kept=visible,
            grid=grid,
            taps={layer: tap[:, first:] for layer, tap in taps.items()},
            qkv=qkv,
            attention_bias=bias,
        )

    def tap(self, images: Tensor, needs: Needs) -> tuple[tuple[int, int], dict, dict]:
        """Run full images to the last block needed and no further.

        Returns:
            The grid, {layer: (B, [1 +] L, C)} and {layer: (q, k, v)}, keyed as asked for.
        """
        x, grid, _ = self._embed(images)
        needs = replace(needs, tokens=False)
        _, taps, qkv = self._run_blocks(x, grid, needs, self._shared_bias(grid))
        return grid, taps, qkv

    def grid(self, images: Tensor) -> tuple[int, int]:
        """(h, w) of the tokens of these images (B, 3, H, W)."""
        return self.grid_of(*images.shape[2:])

    def grid_of(self, height: int, width: int) -> tuple[int, int]:
        """(h, w) of the tokens of an image of that size."""
        return -(-height // self.patch_size), -(-width // self.patch_size)

    def block_index(self, layer: int) -> int:
        """A block's index from 0; -1, the patch embedding, in a network without blocks."""
        depth = self.num_layers
        if not depth and layer == -1:
            return layer
        index = layer + depth if layer < 0 else layer
        if not 0 <= index < depth:
            raise UserError("layer", layer, expected=f"a block index of a ViT with {depth} blocks")
        return index

    def _embed(
        self, images: Tensor, mask: Tensor | None = None, num_masked: int | None = None
    ) -> tuple[Tensor, tuple[int, int], Tensor | None]:
        """Patches with positions and CLS, masked.

        Returns:
            Tokens (B * M, [1 +] K, C), the full grid, and the visible patches (B * M, K), None
            where none was dropped.
        """
        x, grid = self.patch_embed(images)
        if mask is not None:
            if mask.shape[1] != x.shape[1] or mask.shape[0] % x.shape[0]:
                raise ValueError(f"mask of shape {tuple(mask.shape)} for tokens {tuple(x.shape)}")
            x = x.repeat_interleave(mask.shape[0] // x.shape[0], dim=0)
            if self.mask_mode == "token":
                x = torch.where(mask[..., None], self.mask_token, x)
        x, pos = self._add_position(x, grid)
        visible = None
        if mask is not None and self.mask_mode == "drop":
            visible = visible_indices(mask, num_masked)
            x = x.gather(1, visible[..., None].expand(-1, -1, x.shape[2]))
        return self._prepend_cls(x, pos), grid, visible

    # ------------------------------------------------------------------ positions

    def _add_position(self, x: Tensor, grid: tuple[int, int]) -> tuple[Tensor, Tensor | None]:
        if self.pos_embed is None:
            return x, None
        pos = self._position(grid)  # float32 under autocast, as the residual sums
        return x + pos[:, int(self.cls_token is not None) :], pos

    def _prepend_cls(self, x: Tensor, pos: Tensor | None) -> Tensor:
        if self.cls_token is None:
            return x
        cls = self.cls_token if pos is None else self.cls_token + pos[:, :1]
        return torch.cat([cls.expand(x.shape[0], -1, -1), x], dim=1)

    def _position(self, grid: tuple[int, int]) -> Tensor:
        """`pos_embed` on a grid, (1, [1 +] L, C)."""
        if is_known(grid) and grid == self.base_grid:
            return self.pos_embed
        options = dict(with_cls=self.cls_token is not None, shifted=self.shifted_sampling)
        if not is_known(grid) or (self.pos_embed.requires_grad and torch.is_grad_enabled()):
            return resize_position_embedding(self.pos_embed, self.base_grid, grid, **options)
        key = (grid, self.pos_embed.device, self.pos_embed._version)
        if self._resized_pos is None or self._resized_pos[0] != key:
            table = self.pos_embed.detach()
            table = resize_position_embedding(table, self.base_grid, grid, **options)
            self._resized_pos = (key, table)
        return self._resized_pos[1]

    def relative_bias(self, table: Tensor, grid: tuple[int, int]) -> Tensor:
        """A relative position table's bias on a grid, (heads, [1 +] L, [1 +] L)."""
        offsets = self._relative_offsets(grid, table.device)
        table = resize_relative_table(table, self.base_grid, grid)
        return table[offsets].permute(2, 0, 1)

    def block_bias(self, index: int, grid: tuple[int, int]) -> Tensor | None:
        """The relative bias of a block, from its table or the shared one, if it has any."""
        return self._bias_in(self.layers[index], grid, self._shared_bias(grid))

    def _shared_bias(self, grid: tuple[int, int]) -> Tensor | None:
        if self.rel_pos_bias is None:
            return None
        return self.relative_bias(self.rel_pos_bias.relative_position_bias_table, grid)

    def _bias_in(
        self,
        block: TransformerBlock,
        grid: tuple[int, int],
        shared: Tensor | None,
        visible: Tensor | None = None,
    ) -> Tensor | None:
        """A block's bias among the tokens that it sees: from its table, else `shared` as it is."""
        table = block.attn.relative_position_bias_table
        if table is None:
            return shared
        return visible_bias(self.relative_bias(table, grid), visible, self.cls_token is not None)

    def _relative_offsets(self, grid: tuple[int, int], device: torch.device) -> Tensor:
        if not is_known(grid):  # cannot be a key
            return relative_position_index(grid, self.cls_token is not None).to(device)
        key = (grid, device)
        if key not in self._offsets:
            self._offsets.clear()  # one grid: detection pads to a new one in every batch
            index = relative_position_index(grid, self.cls_token is not None)
            self._offsets[key] = index.to(device)
        return self._offsets[key]

    # ------------------------------------------------------------------ blocks

    def _run_blocks(
        self,
        x: Tensor,
        grid: tuple[int, int],
        needs: Needs,
        shared: Tensor | None,
        visible: Tensor | None = None,
    ) -> tuple[Tensor, dict[int, Tensor], dict[int, QKV]]:
        """Run the blocks as far as needed: to the end for tokens, else to the last tap.

        Returns:
            Tokens, {layer: tokens} and {layer: (q, k, v)}, keyed as asked for.
        """
        self._report_padding(grid)
        layers, tapped = self._names(needs.layers), self._names(needs.qkv)
        taps, qkv = dict.fromkeys(layers.get(-1, ()), x), {}
        last, whole = last_block(self, needs)
        shared = visible_bias(shared, visible, self.cls_token is not None)

        def run(block: TransformerBlock, x: Tensor) -> Tensor:
            # recomputed together: a bias of every pair is not held
            return block(x, self._bias_in(block, grid, shared, visible), grid)

        for index, block in enumerate(self.layers[: last + 1]):
            if index == last and not whole:
                qkv |= dict.fromkeys(tapped[index], block.query_key_value(x))
                break
            if index in tapped:
                bias = self._bias_in(block, grid, shared, visible)
                x, parts = block.forward_tapped(x, bias, grid)
                qkv |= dict.fromkeys(tapped[index], parts)
            elif self.activation_checkpointing and self.training:
                x = checkpoint(run, block, x, use_reentrant=False)
            else:
                x = run(block, x)
            taps |= dict.fromkeys(layers.get(index, ()), x)
        return x, taps, qkv

    def _names(self, layers: frozenset[int]) -> dict[int, list[int]]:
        """Block index -> the names it was asked by, such as 11 and -1."""
        names: dict[int, list[int]] = {}
        for layer in layers:
            names.setdefault(self.block_index(layer), []).append(layer)
        return names

    def _report_padding(self, grid: tuple[int, int]) -> None:
        """Warn, once, of images that are smaller than a window."""
        window = max((block.window for block in self.layers), default=0)
        if not self._padding_reported and is_known(grid) and min(grid) < window:
            self._padding_reported = True
            report_padding(window, grid)

    # ------------------------------------------------------------------ maps and features

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """(B, 3, H, W) -> a tuple with one output per `out_indices`, of the kind `out_type`.

        The final norm is applied to the last block's output alone, as in mmpretrain.
        """
        needs = Needs(layers=frozenset(self.out_indices))
        grid, taps, _ = self.tap(images, needs)
        first = int(self.cls_token is not None)
        outs = []
        for index in self.out_indices:
            x = taps[index]
            if index == self.num_layers - 1 and self.ln1 is not None:
                x = self.ln1(x)
            if self.out_type == "cls_token":
                x = x[:, 0]
            elif self.out_type == "avg_featmap":
                x = self.ln2(x[:, first:].mean(dim=1))
            elif self.out_type == "featmap":
                x = x[:, first:].transpose(1, 2).reshape(x.shape[0], -1, *grid)
                # what the convolutions that follow are fast on
                form = torch.channels_last if x.is_cuda else torch.contiguous_format
                x = x.contiguous(memory_format=form)
            outs.append(x)
        return tuple(outs)

    def features(
        self,
        images: Tensor | ImageLike | Sequence[Tensor | ImageLike],
        layers: Sequence[int] | None = None,
    ) -> dict[str, Tensor | dict[int, Tensor] | None]:
        """{"patches": (B, h, w, C), "cls": (B, C) or None}; see `features_of` for the rest."""
        return features_of(self, images, layers)

    # ------------------------------------------------------------------ weights

    def init_weights(self) -> None:
        """Draw every weight, then load `init_cfg`'s checkpoint, if any.

        Loading comes last, so that nothing overwrites what was loaded.
        """
        draw_weights(self)
        self._is_init = True
        if self.init_cfg:
            load_pretrained(self)

    def resize_state_dict(self, state: dict, prefix: str = "") -> list[str]:
        """Resize what depends on the grid, in place; return the names of what was resized."""
        return resize_tables(self, state, prefix)

    def _resize_on_load(self, state: dict, prefix: str, *_: object) -> None:
        self.resize_state_dict(state, prefix)

    def get_layer_depth(self, param_name: str, prefix: str = "") -> tuple[int, int]:
        """Depth of a parameter for layer decay, and the number of depths.

        0 is the stem; the last depth is whatever follows the blocks, other modules included.
        """
        last = self.num_layers + 1
        if not param_name.startswith(prefix):
            return last, last + 1
        name = param_name[len(prefix) :]
        if name.startswith("layers."):
            return int(name.split(".")[1]) + 1, last + 1
        stem = ("cls_token", "mask_token", "pos_embed", "patch_embed")
        return (0 if name.startswith(stem) else last), last + 1
