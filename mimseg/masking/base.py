"""Defines what every mask generator offers to the algorithm."""

from __future__ import annotations

import torch
from mmengine.dist import get_rank, get_world_size
from torch import Tensor, nn

from mimseg.errors import require_at_least
from mimseg.outputs import Needs, TeacherOutput
from mimseg.randomness import mix


class Masking(nn.Module):
    """Base of the mask generators; subclasses implement `draw`.

    The random numbers come from a separate generator, seeded at each step with (seed, step). Seed
    and step are buffers: they are saved, so a resumed run draws the same masks as one that was not
    interrupted. Each process draws the masks of all processes' images and takes those of its own,
    so that an image's mask does not depend on how many processes there are. A CPU and a GPU draw
    differently from one seed.

    Args:
        num_masks: M, masks per image.
        seed: fixes the masks; None draws a seed when weights are initialized.

    Attributes:
        teacher: the teacher whose output the masks are drawn from, for those that need one.
        draws_for: (rank, processes) whose masks are drawn; None for this process.
        counters: buffers that count iterations, those of skipped steps included.
    """

    teacher: str | None = None
    draws_for: tuple[int, int] | None = None
    counters = ("step",)

    def __init__(self, num_masks: int = 1, seed: int | None = None) -> None:
        super().__init__()
        require_at_least("masking.num_masks", num_masks, 1)
        self.num_masks, self.fixed_seed = num_masks, seed
        self.register_buffer("seed", torch.tensor(seed or 0, dtype=torch.int64))
        self.register_buffer("step", torch.tensor(0, dtype=torch.int64))
        self._host_step: int | None = None  # spares a device synchronization per step
        self._register_load_state_dict_pre_hook(self._forget_step)

    def _forget_step(self, *_: object) -> None:
        self._host_step = None

    def init_weights(self) -> None:
        """Draw the seed from torch's generator, unless the config fixes it."""
        if self.fixed_seed is None:
            self.seed.fill_(int(torch.randint(2**31, ())))
        self.step.zero_()
        self._host_step = None

    def rewind(self, step: int) -> None:
        """Go back to a step, as if no mask had been drawn since."""
        self.step.fill_(step)
        self._host_step = None

    @property
    def needs(self) -> Needs:
        """What the generator needs from its teacher."""
        return Needs()

    def num_masked(self, grid: tuple[int, int]) -> int | None:
        """Masked patches per mask, where every mask has the same number; else None."""
        return None

    def forward(
        self,
        batch: int,
        grid: tuple[int, int],
        device: torch.device,
        teachers: dict[str, TeacherOutput] | None = None,
    ) -> Tensor:
        """Masks for B images, (B * M, L) bool, True = masked; image i has rows i * M onwards."""
        if self._host_step is None:
            self._host_step, self._host_seed = int(self.step), int(self.seed)
        generator = torch.Generator(device=device)
        generator.manual_seed(mix(self._host_seed, 0, self._host_step))
        self._host_step += 1
        self.step.fill_(self._host_step)
        rank, processes = self.draws_for or (get_rank(), get_world_size())
        masks = self.draw(batch * processes * self.num_masks, grid, generator, teachers or {})
        # samples go round the processes: see mimseg.data.order
        return masks.view(batch, processes, self.num_masks, -1)[:, rank].flatten(0, 1)

    def draw(
        self,
        count: int,
        grid: tuple[int, int],
        generator: torch.Generator,
        teachers: dict[str, TeacherOutput],
    ) -> Tensor:
        """(count, L) bool on the generator's device."""
        raise NotImplementedError
