"""mimseg.load builds the official dense backbones from their weights alone."""

import pytest
import torch

from mimseg.checkpoints.backbone import load

from golden import Case, cases, needs_golden  # isort: skip

pytestmark = needs_golden
DENSE = [name for name in cases() if name.startswith(("mae_seg", "beit2_seg", "det_"))] or ["none"]


@pytest.mark.parametrize("name", DENSE)
def test_the_map_at_the_patches_own_size(name, tmp_path):
    """Level 2 of the official pyramids is the backbone's map as it is."""
    case = Case(name)
    h = case.h
    torch.save({"model": case.part("state/")}, tmp_path / "official.pth")
    options = dict(out_indices=h["out_indices"], norm_eps=h.get("layer_norm_eps", 1e-6))
    if not name.startswith("beit"):  # its tables tell the heads
        options["num_heads"] = h["num_heads"]
    if name.startswith("det_"):
        options["shifted_sampling"] = True
    if not isinstance(h["img_size"], int):
        options["img_size"] = tuple(h["img_size"])
    model = load(tmp_path / "official.pth", **options)
    with torch.no_grad():
        case.close(model(case["in/image"])[2], "out/level2")
