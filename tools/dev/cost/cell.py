"""One measurement: a task, a size of network and of image, a device and a type."""

from __future__ import annotations

from dataclasses import dataclass

from mimseg.errors import UserError
from mimseg.students.archs import ARCHS, last_of_quarters

TASKS = {"upernet": "UperNet", "mask-rcnn": "Mask R-CNN"}
SIZES = {"upernet": 512, "mask-rcnn": 1024}  # sides of the papers' training crops
BATCHES = {"upernet": 2, "mask-rcnn": 1}
STOCK = {"upernet": "mmpretrain.VisionTransformer", "mask-rcnn": "mmpretrain.ViTSAM"}
OURS = "mimseg.ViT"
PATCH = 16


@dataclass(frozen=True)
class Cell:
    """What both sides, ours and the stock one, are measured at.

    Args:
        task: "upernet" or "mask-rcnn".
        arch: a name of `mimseg.students.archs`.
        size: side of the square images in pixels.
        batch: images a step.
        device: "cpu" or "cuda".
        dtype: "float32", or "bf16" for autocast to bfloat16.
        threads: of torch, on the CPU.
        checkpointing: recompute every block in the backward pass, on both sides.

    Raises:
        UserError: a size or batch that the task cannot be trained at.
    """

    task: str
    arch: str
    size: int
    batch: int
    device: str = "cpu"
    dtype: str = "float32"
    threads: int = 1
    checkpointing: bool = False

    def __post_init__(self) -> None:
        if self.size % 32 or self.size < 64:  # the coarsest map has half a patch's resolution
            raise UserError("--size", self.size, expected="a multiple of 32, at least 64")
        if self.task == "upernet" and self.batch < 2:
            raise UserError(
                "--batch",
                self.batch,
                expected="at least 2 for upernet, whose batch norms see one pooled value an image",
            )

    @property
    def settings(self) -> dict[str, int]:
        """Width, depth, heads and hidden width."""
        return ARCHS[self.arch]

    @property
    def global_blocks(self) -> list[int]:
        """The last block of each quarter: global in Mask R-CNN, the pyramid's maps in UperNet."""
        return last_of_quarters(self.settings["num_layers"])

    @property
    def stock(self) -> str:
        """The stock backbone's name."""
        return STOCK[self.task]

    @property
    def name(self) -> str:
        """Of its records' files."""
        parts = [self.task, self.arch, f"{self.batch}x{self.size}", self.device, self.dtype]
        return "_".join(parts + ["checkpointing"] * self.checkpointing)

    @property
    def title(self) -> str:
        """For people."""
        text = f"{TASKS[self.task]}, ViT-{self.arch}/{PATCH}, {self.batch} x {self.size} px"
        text += f", {self.dtype} on {self.device}"
        text += f" with {self.threads} threads" if self.device == "cpu" else ""
        return text + (", activation checkpointing" if self.checkpointing else "")

    @property
    def work(self) -> float:
        """About how long a step takes, in a unit of its own: for guesses of the time left."""
        width, depth = self.settings["embed_dims"], self.settings["num_layers"]
        tokens = (self.size / PATCH) ** 2
        per_token = 12 * width**2 * depth
        # UperNet's widest convolution, on 16 pixels a token; Mask R-CNN's RPN at 256 channels
        per_token += 16 * 9 * (5 * width**2 if self.task == "upernet" else 3 * 256**2)
        return self.batch * tokens * per_token
