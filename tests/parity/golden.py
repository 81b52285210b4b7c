"""Reading the golden folder: tiny models, inputs and outputs of the official implementations."""

import json
import os
from fnmatch import fnmatch
from functools import cache
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from mimseg.algorithms.outputs import TeacherOutput
from mimseg.masking.base import Masking
from mimseg.registry import MODELS
from mimseg.teachers.base import Teacher

DEFAULT = Path(__file__).parents[2] / "../shared/golden/dev"
GOLDEN = Path(os.environ.get("MIMSEG_GOLDEN", DEFAULT))
needs_golden = pytest.mark.skipif(not GOLDEN.exists(), reason="no ../shared/golden")


@cache
def cases():
    """Name -> case, as `cases.json` has it; empty where there is no folder."""
    path = GOLDEN / "cases.json"
    return {c["name"]: c for c in json.loads(path.read_text())["cases"]} if path.exists() else {}


# what no attention kernel has a part in: tables, positions, normalised targets
WITHOUT_ATTENTION = ("mask", "md_target", "rel_pos_bias", "*table_*", "*pos_embed*", "tokens_in")


class Case:
    """One case: its hyper-parameters `h`, its tensors, and which outputs were compared."""

    def __init__(self, name):
        self.case = cases()[name]
        self.h = self.case["hparams"]
        self.tensors = load_file(GOLDEN / self.case["file"])
        if inherits := self.case.get("inherits"):
            source = load_file(GOLDEN / cases()[inherits["from_case"]]["file"])
            wanted = inherits["tensors"]
            shared = [k for k in source if any(fnmatch(k, pattern) for pattern in wanted)]
            self.tensors |= {k: source[k] for k in shared}
        self.compared = set()

    def __getitem__(self, key):
        return self.tensors[key]

    def part(self, prefix):
        """{rest of the name: tensor} of everything under a prefix."""
        return {k[len(prefix) :]: v for k, v in self.tensors.items() if k.startswith(prefix)}

    def close(self, value, key):
        """Compare with `out/...`: to the case's tolerance, to three of it behind attention."""
        self.compared.add(key)
        if not self.tensors[key].is_floating_point():
            torch.testing.assert_close(value.to(self.tensors[key].dtype), self.tensors[key])
            return
        exact = not key.startswith("out/grad/")  # gradients of a table came through attention
        exact = exact and any(fnmatch(key, f"out/{name}") for name in WITHOUT_ATTENTION)
        atol = (1 if exact else 3) * self.case["suggested_atol"][key]
        torch.testing.assert_close(
            value, self.tensors[key], atol=atol, rtol=0, msg=lambda m: f"{key}: {m}"
        )

    def assert_complete(self, **reasons):
        """Every `out/*` was compared, or is named (without `out/`) with the reason it is not."""
        outputs = {k for k in self.case["tensors"] if k.startswith("out/")}
        left = outputs - self.compared - {f"out/{name}" for name in reasons}
        assert not left, sorted(left)


@MODELS.register_module(name="GoldenTeacher")
class GoldenTeacher(Teacher):
    """Gives recorded tokens (B, L, D), CLS (B, D) beside them if there is one."""

    saved = True

    def __init__(self, tokens, cls=None):
        super().__init__(mean=(0, 0, 0), std=(1, 1, 1))
        self.offers = frozenset({"layers", "cls"})
        self.tokens, self.cls, self.out_channels = tokens, cls, tokens.shape[-1]

    def targets(self, images, needs):
        height, width = images.shape[2:]
        patch = (height * width / self.tokens.shape[1]) ** 0.5
        cls = {} if self.cls is None else {-1: self.cls}
        grid = (round(height / patch), round(width / patch))
        return TeacherOutput(grid, tokens={-1: self.tokens}, cls=cls)


@MODELS.register_module(name="GoldenMask")
class GoldenMask(Masking):
    """Gives a recorded mask (B, L)."""

    def __init__(self, mask):
        super().__init__()
        self.mask = mask.bool()

    def draw(self, count, grid, generator, teachers):
        return self.mask


RAW = dict(mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))  # golden images are normalised already


def arch(h):
    """Our `arch` from a case's hyper-parameters."""
    return dict(
        embed_dims=h["embed_dim"],
        num_layers=h["depth"],
        num_heads=h["num_heads"],
        feedforward_channels=int(h["mlp_ratio"] * h["embed_dim"]),
    )


def gradients(model, key_map):
    """Gradients of all parameters, by the official names."""
    return key_map.to_theirs({k: p.grad for k, p in model.named_parameters() if p.grad is not None})
