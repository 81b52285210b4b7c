"""The official pretraining weights are recognised and load into the backbone of their config."""

import pytest
import torch

from mimseg.checkpoints.loader import load_backbone
from mimseg.checkpoints.recognise import recognise
from mimseg.registry import MODELS

from golden import Case, arch, needs_golden  # isort: skip

pytestmark = needs_golden
BEIT = ("beit", "beit2", "dbot-beit")
PLAIN = ("timm", "tinymim", "mae", "dbot")
# case, part of its tensors, names that the family answers to
STATES = [
    ("dbot_main_full", "state/student/", ("dbot",)),
    ("dbot_main_full", "state/teacher/", PLAIN),
    ("dbot_beit", "state/", BEIT),
    ("beit2_student_shared_noabs", "state/", BEIT),
    ("beit2_student_shared_abs", "state/", BEIT),
    ("beit2_student_perlayer_abs", "state/", BEIT),
    ("tinymim", "state/student/", PLAIN),
    ("mae_seg_backbone", "in/pretrain/", ("dbot",)),
    ("mae_seg_backbone", "state/", PLAIN),
    ("beit2_seg_from_shared", "in/pretrain/", BEIT),
    ("beit2_seg_from_shared", "state/", (*BEIT, "timm")),
    ("det_ibot_backbone_square", "state/", PLAIN),
]


@pytest.mark.parametrize("name, part, names", STATES)
def test_official_states(name, part, names, tmp_path):
    case = Case(name)
    state = case.part(part)
    found = recognise(state, name)
    assert found.family.names == names
    shape = found.state["patch_embed.projection.weight"].shape
    tables = "shared" if "rel_pos_bias.relative_position_bias_table" in found.state else "none"
    per_block = "layers.0.attn.relative_position_bias_table" in found.state
    table = next((v for k, v in found.state.items() if k.endswith("bias_table")), None)
    h = {**case.h, **case.h.get("student", {})}
    depth = 1 + max(int(n.split(".")[1]) for n in found.state if n.startswith("layers."))
    side = h["img_size"] if isinstance(h["img_size"], int) else h["img_size"][0]
    if "pos_embed" in found.state:
        side = round((found.state["pos_embed"].shape[1] - 1) ** 0.5) * shape[2]
    elif table is not None:
        side = (round((table.shape[0] - 3) ** 0.5) + 1) // 2 * shape[2]
    cfg = dict(
        type="mimseg.ViT",
        arch=arch({**h, "embed_dim": shape[0], "depth": depth, "mlp_ratio": h.get("mlp_ratio", 4)}),
        img_size=side,
        patch_size=shape[2],
        pos_embed="learned" if "pos_embed" in found.state else "none",
        rel_pos_bias="per_block" if per_block else tables,
        layer_scale=0.1 if "layers.0.attn.gamma1.weight" in found.state else 0.0,
        mask_mode="token" if "mask_token" in found.state else "drop",
        final_norm="ln1.weight" in found.state,
    )
    model = MODELS.build(cfg)
    torch.save({"model": state}, tmp_path / "official.pth")
    report = load_backbone(model, tmp_path / "official.pth")
    assert not report.missing and not report.unexpected and not report.resized
    assert len(report.matched) == len(found.state)
