"""Names of other codes to ours and back."""

import pytest
import torch

from mimseg.checkpoints import families
from mimseg.errors import UserError

BLOCK = ["norm1.weight", "attn.proj.bias", "norm2.bias", "mlp.fc1.weight", "mlp.fc2.bias"]
PLAIN = ["cls_token", "patch_embed.proj.weight", "norm.bias", *(f"blocks.11.{n}" for n in BLOCK)]
DECODER = ["mask_token", "decoder_embed.weight", "decoder_norm.bias", "decoder_blocks.0.norm1.bias"]


@pytest.mark.parametrize(
    "family, extra, head",
    [
        ("MAE", [*DECODER, "decoder_pred.weight"], "projection.weight"),
        ("DBOT", [*DECODER, "decoder_predp.weight"], "projection.weight"),
        ("TINYMIM", ["pos_embed"], None),
        ("BEIT", ["mask_token", "lm_head.bias", "blocks.0.gamma_2"], "projection.bias"),
        ("BEIT", ["cls_pt_layers.1.norm1.weight"], "layers.1.ln1.weight"),  # aggregation
    ],
)
def test_there_and_back(family, extra, head):
    key_map = getattr(families, family)
    state = {name: torch.tensor(float(i)) for i, name in enumerate(PLAIN + extra)}
    ours = key_map.to_ours(state)
    assert len(ours) == len(state)
    assert {name.split(".")[0] for name in ours} <= {"backbone", "objectives"}
    assert head is None or f"objectives.loss.head.{head}" in ours
    assert key_map.to_theirs(ours) == state
    with pytest.raises(UserError, match="head.fc.weight"):
        key_map.to_ours(state | {"head.fc.weight": torch.zeros(1)})


def test_biases_that_stand_apart():
    q, v = torch.arange(4.0), torch.arange(4.0, 8.0)
    ours = families.BEIT.to_ours({"blocks.0.attn.q_bias": q, "blocks.0.attn.v_bias": v})
    assert list(ours) == ["backbone.layers.0.attn.qkv.bias"]
    joined = ours["backbone.layers.0.attn.qkv.bias"]
    assert torch.equal(joined, torch.cat([q, torch.zeros(4), v]))
    apart = families.BEIT.to_theirs(ours)
    assert torch.equal(apart["blocks.0.attn.q_bias"], q) and len(apart) == 2
    assert torch.equal(apart["blocks.0.attn.v_bias"], v)
