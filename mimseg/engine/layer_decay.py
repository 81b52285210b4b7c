"""Layer-wise learning rate decay for any model with a `backbone`."""

from __future__ import annotations

from collections.abc import Iterable

from mmengine.logging import print_log
from mmengine.optim import DefaultOptimWrapperConstructor, _ParamScheduler
from mmengine.registry import OPTIMIZERS
from torch import nn

from mimseg.errors import UserError
from mimseg.registry import OPTIM_WRAPPER_CONSTRUCTORS

_KEYS = ("layer_decay_rate", "decay_embeddings", "custom_keys")
_CUSTOM_KEYS = ("lr_mult", "decay_mult")
_TOKENS = ("cls_token", "mask_token", "dist_token", "reg_token", "register_tokens")


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class LayerDecayConstructor(DefaultOptimWrapperConstructor):
    """Parameter groups whose learning rate falls from the head to the stem.

    A parameter at depth d of n gets lr * rate ** (n - 1 - d), where (d, n) is what
    `model.backbone.get_layer_depth(name, "backbone.")` says: 0 is the stem, n - 1 all that follows
    the blocks, heads included (BEiT, arXiv 2106.08254, appendix). Parameters of one depth, learning
    rate and weight decay share a group. Classifiers, segmentors, detectors and pretraining alike.

    Biases, norms, layer scales, all other 1-D parameters, tokens and position embeddings get no
    weight decay. Tables of relative positions do, as in the codes of BEiT, BEiT v2 and ViTDet.
    Frozen parameters are left out.

    `paramwise_cfg` takes:

    - layer_decay_rate: in (0, 1]; 1 (the default) means no decay by layer.
    - decay_embeddings: True gives tokens and position embeddings weight decay, as the official
      codes of BEiT, MAE and dBOT do in segmentation and detection, where their test by name misses
      the prefix "backbone.". Default False.
    - custom_keys: {part of a name: dict(lr_mult=..., decay_mult=...)}; the longest part that fits
      wins. lr_mult multiplies the layer's rate. decay_mult, where given, takes the place of the
      rules on weight decay.

    A scheduler's `eta_min` is absolute and would lift the small rates: use 0 or `eta_min_ratio`.
    `check_floors` refuses what would.

    Raises:
        UserError: an unknown key, a value out of range, a backbone that cannot tell depths, or
            an optimizer without `lr`.
    """

    def __init__(self, optim_wrapper_cfg: dict, paramwise_cfg: dict | None = None) -> None:
        # never empty: mmengine asks for no groups at all without it
        settings = {"layer_decay_rate": 1.0, **(paramwise_cfg or {})}
        super().__init__(optim_wrapper_cfg, settings)

    def _validate_cfg(self) -> None:
        _only_known("paramwise_cfg", self.paramwise_cfg, _KEYS)
        rate = self.paramwise_cfg["layer_decay_rate"]
        if not isinstance(rate, int | float) or not 0 < rate <= 1:
            raise UserError("paramwise_cfg.layer_decay_rate", rate, expected="a number in (0, 1]")
        kind = self.optimizer_cfg.get("type")
        if isinstance(kind, str) and OPTIMIZERS.get(kind) is None:
            raise UserError(
                "optim_wrapper.optimizer.type", kind, expected="an optimizer's name, as 'AdamW'"
            )
        if self.base_lr is None:
            raise UserError(
                "optim_wrapper.optimizer.lr", None, expected="a learning rate", fix="write it out"
            )
        for part, rule in self.paramwise_cfg.get("custom_keys", {}).items():
            key = f"paramwise_cfg.custom_keys[{part!r}]"
            if not isinstance(rule, dict):
                raise UserError(key, rule, expected="dict(lr_mult=..., decay_mult=...)")
            _only_known(key, rule, _CUSTOM_KEYS)
            if "decay_mult" in rule and self.base_wd is None:
                raise UserError(
                    "optim_wrapper.optimizer.weight_decay",
                    None,
                    expected=f"a number, as {key} scales it",
                )

    def add_params(self, params: list[dict], module: nn.Module, *args, **kwargs) -> None:
        """Append the groups of `module`, the whole model, to `params`."""
        depth_of = self._depth_function(module)
        rate = self.paramwise_cfg["layer_decay_rate"]
        groups: dict[tuple, dict] = {}
        for name, param in module.named_parameters():
            if not param.requires_grad:
                continue
            name = name.replace("_orig_mod.", "")  # torch.compile's wrapper
            depth, num_layers = depth_of(name)
            rule = self._custom_rule(name)
            scale = rate ** (num_layers - 1 - depth) * rule.get("lr_mult", 1.0)
            decay = self._weight_decay(name, param, rule)
            key = (depth, scale, -1.0 if decay is None else decay)
            if key not in groups:
                groups[key] = {
                    "params": [],
                    "names": [],
                    "lr": self.base_lr * scale,
                    "lr_scale": scale,
                    **({} if decay is None else {"weight_decay": decay}),
                }
            groups[key]["params"].append(param)
            groups[key]["names"].append(name)
        ordered = sorted(groups.items(), key=lambda item: item[0])
        params.extend(group for _, group in ordered)
        print_log(self._table(ordered), "current")

    def _depth_function(self, model: nn.Module):
        """name -> (depth, number of depths)."""
        if self.paramwise_cfg["layer_decay_rate"] == 1:
            return lambda name: (0, 1)
        backbone = getattr(model, "backbone", None)
        if not hasattr(backbone, "get_layer_depth"):
            raise UserError(
                "paramwise_cfg.layer_decay_rate",
                self.paramwise_cfg["layer_decay_rate"],
                expected=f"a backbone with get_layer_depth; {type(backbone).__name__} of "
                f"{type(model).__name__} has none",
                fix="use mimseg.ViT, or layer_decay_rate=1",
            )
        return lambda name: backbone.get_layer_depth(name, "backbone.")

    def _custom_rule(self, name: str) -> dict:
        rules = self.paramwise_cfg.get("custom_keys", {})
        part = max((p for p in rules if p in name), key=lambda p: (len(p), p), default=None)
        return {} if part is None else rules[part]

    def _weight_decay(self, name: str, param: nn.Parameter, rule: dict) -> float | None:
        """The parameter's weight decay, or None for the optimizer's own default."""
        if "decay_mult" in rule:
            return self.base_wd * rule["decay_mult"]
        exempt = param.ndim <= 1 or name.endswith(".bias")
        if not self.paramwise_cfg.get("decay_embeddings", False):
            exempt = exempt or name.rpartition(".")[2] in _TOKENS or "gamma" in name
            exempt = exempt or "pos_embed" in name
        return 0.0 if exempt else self.base_wd

    def _table(self, groups: list[tuple[tuple, dict]]) -> str:
        rate = self.paramwise_cfg["layer_decay_rate"]
        lines = [
            f"{len(groups)} parameter groups, layer decay {rate}:",
            f"  {'depth':>5}{'lr':>12}{'scale':>10}{'decay':>9}{'tensors':>9}{'parameters':>12}",
        ]
        for (depth, scale, _), group in groups:
            decay, count = group.get("weight_decay", "default"), len(group["params"])
            total = sum(param.numel() for param in group["params"])
            rates = f"{group['lr']:>12.3e}{scale:>10.4g}"
            lines.append(f"  {depth:>5}{rates}{decay:>9}{count:>9}{total:>12,}")
        return "\n".join(lines)


def check_floors(schedulers: Iterable[_ParamScheduler], factor: float = 1.0) -> None:
    """See that no scheduler lifts a parameter group above the learning rate it starts from.

    mmengine's `eta_min` is one number for all groups: those of a decayed layer that start below it
    would rise to it instead of falling. So is OneCycleLR's `eta_max`, which lifts all to one rate.

    Args:
        schedulers: as built, in the order of the config's `param_scheduler`.
        factor: what the config's rates were multiplied by; messages have them as written.

    Raises:
        UserError: naming param_scheduler[i].eta_min or .eta_max and the smallest group's rate.
    """
    for index, scheduler in enumerate(schedulers):
        if scheduler.param_name != "lr":
            continue
        rates = [group.get("lr_scale", 1.0) for group in scheduler.optimizer.param_groups]
        if hasattr(scheduler, "eta_max") and min(rates) < max(rates):
            raise UserError(
                f"param_scheduler[{index}].eta_max",
                _written(scheduler.eta_max, factor),
                expected="a schedule that scales every group's own rate; all groups would rise "
                "to this one",
                fix="LinearLR and then CosineAnnealingLR, or one rate for all (no decay, no "
                "lr_mult)",
            )
        floor = getattr(scheduler, "eta_min", None)
        if floor is None:
            continue
        lowest, highest = min(scheduler.base_values), max(scheduler.base_values)
        if floor > lowest:
            fix = "eta_min=0"
            if hasattr(scheduler, "eta_min_ratio"):
                fix += f", or eta_min_ratio={floor / highest:.3g} in its place"
            raise UserError(
                f"param_scheduler[{index}].eta_min",
                _written(floor, factor),
                expected=f"at most {lowest / factor:.3g}, the learning rate that the lowest "
                "parameter group starts from: it would rise to eta_min",
                fix=fix,
            )


def _written(rate: float, factor: float) -> float:
    """A scaled rate as the config has it, without the rounding of the way there and back."""
    return float(f"{rate / factor:.12g}")


def _only_known(key: str, value: dict, known: tuple[str, ...]) -> None:
    unknown = sorted(set(value) - set(known))
    if unknown:
        raise UserError(
            f"{key}.{unknown[0]}", value[unknown[0]], expected="one of " + ", ".join(known)
        )
