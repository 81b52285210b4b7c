"""Normalizes every dimension to the same variance (PHI-S)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from mmengine.dist import all_reduce, broadcast
from torch import Tensor

from mimseg.errors import UserError, require_at_least
from mimseg.normalizations.balance import balancing_rotation
from mimseg.normalizations.base import Normalization
from mimseg.outputs import TeacherOutput
from mimseg.registry import MODELS


@MODELS.register_module()
class PHISNormalization(Normalization):
    """PCA-Hadamard isotropic standardization (PHI-S, arXiv 2410.01680).

    Targets are centered, turned by the covariance's eigenvectors and a Hadamard matrix, so that
    every dimension has the same variance, and divided by one number, so that this variance is 1.
    The errors of several teachers then weigh alike, in every direction.

    Mean and covariance are estimated from the patch tokens of the first training batches of all
    ranks, in float64, then frozen. Ours: until then the estimates so far center and scale, and
    nothing is turned (eigenvectors of a growing sample would turn the targets at every step); the
    CLS token goes through the same map; before the first training batch the tokens are unchanged.

    Args:
        layers: the teacher's block that is the target; one, as the statistics are one network's.
        warmup_steps: training batches that are estimated from; 1 fits the first batch and stays.
        eps: added to the mean variance, under the root.
    """

    def __init__(
        self, layers: Sequence[int] = (-1,), warmup_steps: int = 100, eps: float = 1e-6
    ) -> None:
        super().__init__(layers)
        if len(self.layers) != 1:
            raise UserError(
                "normalization.layers",
                self.layers,
                expected="one layer",
                fix="an objective for each layer",
            )
        require_at_least("normalization.warmup_steps", warmup_steps, 1, fix="100")
        self.warmup_steps, self.eps = warmup_steps, eps
        self._frozen = False
        self.register_buffer("steps", torch.zeros((), dtype=torch.long))
        # Count, sums and products: [1, x]^T [1, x] summed over tokens, (1 + D, 1 + D).
        self.register_buffer("moments", torch.empty(0, dtype=torch.float64))
        self.register_buffer("mean", torch.empty(0))
        self.register_buffer("rotation", torch.empty(0))
        self.register_buffer("scale", torch.ones(()))

    def bind(self, width: int) -> None:
        self.moments = self.moments.new_zeros(1 + width, 1 + width)
        self.mean = self.mean.new_zeros(width)
        self.rotation = torch.eye(width, device=self.mean.device)

    def forward(self, teacher: TeacherOutput) -> Tensor:
        """The target sequence (B, 1 + L, D), CLS first, in float32."""
        if self.training and not self._frozen:
            self._estimate(teacher.tokens[self.layers[0]])
        return super().forward(teacher)

    def normalize(self, tokens: Tensor) -> Tensor:
        with torch.autocast(tokens.device.type, enabled=False):
            return (tokens - self.mean) @ self.rotation / self.scale

    def denormalize(self, prediction: Tensor, teacher: TeacherOutput) -> Tensor:
        with torch.autocast(prediction.device.type, enabled=False):
            return prediction.float() * self.scale @ self.rotation.T + self.mean

    @torch.no_grad()
    def _estimate(self, tokens: Tensor) -> None:
        """Add a batch's patch tokens (B, L, D); after the last one, fit the rotation."""
        x = tokens.flatten(0, 1).double()
        x = torch.cat([x.new_ones(len(x), 1), x], dim=1)
        batch = x.T @ x
        all_reduce(batch)
        self.moments += batch
        self.steps += 1

        mean = self.moments[0, 1:] / self.moments[0, 0]
        covariance = self.moments[1:, 1:] / self.moments[0, 0] - mean.outer(mean)
        self.mean.copy_(mean)
        self.scale = (covariance.diagonal().mean() + self.eps).sqrt().float()
        if int(self.steps) >= self.warmup_steps:
            variances, vectors = torch.linalg.eigh(covariance)
            rotation = vectors @ balancing_rotation(variances.clamp(min=0)).T
            self.rotation = rotation.float().contiguous()
            broadcast(self.rotation)  # eigenvectors of equal matrices may differ between devices
            self._frozen = True

    def _load_from_state_dict(self, state: dict, prefix: str, *args: object) -> None:
        super()._load_from_state_dict(state, prefix, *args)
        self._frozen = int(self.steps) >= self.warmup_steps
