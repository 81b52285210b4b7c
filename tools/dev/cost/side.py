"""One of the two models that are compared, in the process that is measured."""

from __future__ import annotations

import copy
import logging
import time
import warnings
from pathlib import Path
from types import ModuleType

import torch
from mmengine.logging import MMLogger
from mmengine.optim import OptimWrapper
from mmengine.registry import init_default_scope
from mmengine.runner.activation_checkpointing import turn_on_activation_checkpointing
from torch import Tensor, nn

from dev.cost import mask_rcnn, upernet
from dev.cost.cell import Cell
from dev.cost.memory import PeakMemory
from mimseg.engine.amp_optim_wrapper import AmpOptimWrapper
from mimseg.registry import MODELS

_TASKS: dict[str, ModuleType] = {"upernet": upernet, "mask-rcnn": mask_rcnn}


class Side:
    """A model with an optimizer and a batch, ready to train.

    Neck, heads, batch and weights are the same on both sides; the backbone's class differs. The
    learning rate is 0: each step does the whole work and leaves the weights equal.

    Args:
        cell: what is measured.
        ours: whether the backbone is `mimseg.ViT` instead of the stock one.
    """

    def __init__(self, cell: Cell, ours: bool) -> None:
        torch.set_num_threads(cell.threads)
        torch.backends.cudnn.allow_tf32 = False  # float32 means float32
        warnings.simplefilter("ignore")  # the toolkits' own, the same in every training
        MMLogger.get_instance("bench", log_level=logging.WARNING)
        self.cell, self.ours, self.task = cell, ours, _TASKS[cell.task]
        init_default_scope(self.task.SCOPE)
        mine, stock = self.task.backbones(cell)
        if ours:
            mine["activation_checkpointing"] = cell.checkpointing
        config = self.task.model(cell, mine if ours else stock)
        self.model: nn.Module = MODELS.build(config)
        if cell.checkpointing and not ours:  # the Runner's own way to do it
            blocks = range(cell.settings["num_layers"])
            turn_on_activation_checkpointing(self.model, [f"backbone.layers.{i}" for i in blocks])
        self.batch = self.task.batch(cell)

    def draw(self, path: Path) -> None:
        """Draw our weights and save them. None stays zero, or its terms would not be compared."""
        torch.manual_seed(0)
        self.model.init_weights()
        with torch.no_grad():
            for parameter in self.model.backbone.parameters():
                if not parameter.any():
                    parameter.normal_(std=0.02)
        torch.save(self.model.state_dict(), path)
        self._prepare()

    def load(self, path: Path) -> None:
        """Load our weights into the stock model, every one of them."""
        state = torch.load(path, mmap=True, weights_only=True)
        present = self.model.state_dict()
        state = {name: value.reshape(present[name].shape) for name, value in state.items()}
        self.model.load_state_dict(state, strict=True)  # ViTSAM's pos_embed has (h, w) as axes
        self._prepare()

    def _prepare(self) -> None:
        self.model.to(self.cell.device).train()
        optimizer = torch.optim.AdamW(self.model.parameters(), lr=0.0)
        kind = AmpOptimWrapper if self.cell.dtype == "bf16" else OptimWrapper
        self.optim_wrapper = kind(optimizer)

    def save_outputs(self, path: Path, exact: bool = False) -> None:
        """Save what `differences` compares; `exact` computes it in float32 whatever the type."""
        torch.save(self._outputs(exact), path)

    def differences(self, path: Path, exact: bool = False) -> dict[str, float]:
        """The largest difference to the saved outputs, over the largest value of each tensor.

        Args:
            exact: of what this side computes in float32.

        Returns:
            One number for each of: `maps`, the neck's levels; `head`, what the head makes of them;
            `gradients`, of the backbone's parameters; `loss`, that of a training step.
        """
        theirs = torch.load(path, weights_only=True)
        ours = self._outputs(exact)
        return {kind: _largest(ours[kind], theirs[kind]) for kind in theirs}

    def _outputs(self, exact: bool = False) -> dict[str, list[Tensor]]:
        wrapper = OptimWrapper(self.optim_wrapper.optimizer) if exact else self.optim_wrapper
        buffers = [buffer.clone() for buffer in self.model.buffers()]
        torch.manual_seed(0)
        with wrapper.optim_context(self.model):
            data = self.model.data_preprocessor(copy.deepcopy(self.batch), True)
            levels = self.model.extract_feat(data["inputs"])
            heads = self.task.head_outputs(self.model, levels)
        outputs = [tensor.float() for tensor in (*levels, *heads)]
        pulls = [torch.randn(tensor.shape, device="cpu") for tensor in outputs]
        pairs = zip(outputs, pulls, strict=True)
        sum((tensor * pull.to(tensor)).mean() for tensor, pull in pairs).backward()
        gradients = [p.grad.cpu() for _, p in sorted(self.model.backbone.named_parameters())]
        self.model.zero_grad()
        with torch.no_grad():
            for buffer, before in zip(self.model.buffers(), buffers, strict=True):
                buffer.copy_(before)
        loss = self._train_step(0, wrapper)["loss"]
        values = [tensor.detach().cpu() for tensor in outputs]
        return {
            "maps": values[: len(levels)],
            "head": values[len(levels) :],
            "gradients": gradients,
            "loss": [torch.tensor(loss)],
        }

    def begin(self) -> None:
        """Start to watch the memory, with the model built and no gradients or moments yet."""
        self.model.zero_grad()
        self.optim_wrapper.optimizer.state.clear()
        self.memory = PeakMemory(self.cell.device)

    def step(self, seed: int) -> dict[str, float]:
        """A whole training step, as the Runner does it: forward, loss, backward, optimizer.

        Returns:
            `seconds` and the `loss`.
        """
        return self._train_step(seed, self.optim_wrapper)

    def _train_step(self, seed: int, wrapper: OptimWrapper) -> dict[str, float]:
        data = copy.deepcopy(self.batch)
        torch.manual_seed(seed)
        self._wait()
        start = time.perf_counter()
        logged = self.model.train_step(data, wrapper)
        self._wait()
        return {"seconds": time.perf_counter() - start, "loss": float(logged["loss"].detach())}

    def peak(self) -> float | None:
        """Peak memory since `begin`, in MiB."""
        return self.memory.mebibytes()

    def _wait(self) -> None:
        if self.cell.device == "cuda":
            torch.cuda.synchronize()


def _largest(ours: list[Tensor], theirs: list[Tensor]) -> float:
    found = []
    for a, b in zip(ours, theirs, strict=True):
        a, b = a.flatten().float(), b.flatten().float()
        found.append((a - b).abs().max() / b.abs().max().clamp_min(1e-30))
    return float(torch.stack(found).max())  # NaN where one is
