"""A checkpoint's family is told from its keys, or it is refused."""

import pytest
import torch

from mimseg.checkpoints.families import FAMILIES, NAMES
from mimseg.checkpoints.loader import load_backbone
from mimseg.checkpoints.recognise import recognise
from mimseg.errors import UserError
from mimseg.students.vit import ViT

C = 8
STEM = {
    "cls_token": (1, 1, C),
    "pos_embed": (1, 5, C),
    "patch_embed.proj.weight": (C, 3, 4, 4),
    "patch_embed.proj.bias": (C,),
    "norm.weight": (C,),
    "norm.bias": (C,),
}
BLOCK = {
    "norm1.weight": (C,),
    "norm1.bias": (C,),
    "norm2.weight": (C,),
    "norm2.bias": (C,),
    "attn.qkv.weight": (3 * C, C),
    "attn.proj.weight": (C, C),
    "attn.proj.bias": (C,),
    "mlp.fc1.weight": (2 * C, C),
    "mlp.fc1.bias": (2 * C,),
    "mlp.fc2.weight": (C, 2 * C),
    "mlp.fc2.bias": (C,),
}
FUSED = {"attn.qkv.bias": (3 * C,)}
APART = {"attn.q_bias": (C,), "attn.v_bias": (C,)}
GAMMA = {"gamma_1": (C,), "gamma_2": (C,)}
INDEX = {"attn.relative_position_index": (5, 5)}
TABLE = {"attn.relative_position_bias_table": (12, 2)}
SHARED = {"rel_pos_bias.relative_position_bias_table": (12, 2)}
DECODER = {"mask_token": (1, 1, 4), "decoder_embed.weight": (4, C), "decoder_pos_embed": (1, 5, 4)}
ARCH = dict(embed_dims=C, num_layers=2, num_heads=2, feedforward_channels=2 * C)


def tensors(shapes):
    return {name: torch.randn(shape) for name, shape in shapes.items()}


def vit(block, extra=(), name="blocks", stem=STEM):
    blocks = {f"{name}.{i}.{part}": s for i in (0, 1) for part, s in (BLOCK | block).items()}
    return tensors(stem | blocks | dict(extra))


# what the file holds, the first of the names it answers to, others, options of the ViT it makes
LEARNED = dict(pos_embed="learned")
CASES = {
    "dbot": (vit(FUSED, {**DECODER, "decoder_predp.weight": (9, 4)}), {"dbot"}, LEARNED),
    "mae": (vit(FUSED, {**DECODER, "decoder_pred.weight": (9, 4)}), {"mae"}, LEARNED),
    "beit": (
        vit(APART | GAMMA, SHARED | {"mask_token": (1, 1, C), "lm_head.weight": (9, C)}),
        {"beit", "beit2", "dbot-beit"},
        LEARNED | dict(rel_pos_bias="shared", layer_scale=0.1, mask_mode="token"),
    ),
    "fine-tuned beit": (
        vit(APART | GAMMA | TABLE | INDEX, {"fc_norm.weight": (C,), "head.bias": (9,)}),
        {"beit", "beit2", "dbot-beit", "timm"},
        LEARNED | dict(rel_pos_bias="per_block", layer_scale=0.1),
    ),
    "timm beit": (
        vit(APART | GAMMA | TABLE, {"head.bias": (9,)}),
        {"timm", "beit", "beit2", "dbot-beit"},
        LEARNED | dict(rel_pos_bias="per_block", layer_scale=0.1),
    ),
    "timm": (
        vit(FUSED | {"ls1.gamma": (C,), "ls2.gamma": (C,)}, {"head.bias": (9,)}),
        {"timm"},
        LEARNED | dict(layer_scale=0.1),
    ),
    "plain": (vit(FUSED), {"timm", "tinymim", "mae", "dbot"}, LEARNED),
    "dbot on ADE20K": (
        vit(FUSED | GAMMA | TABLE | INDEX, {"fpn1.0.bias": (C,)}),
        {"timm", "tinymim", "mae", "dbot"},
        LEARNED | dict(rel_pos_bias="per_block", layer_scale=0.1),
    ),
}


@pytest.mark.parametrize("prefix", ["", "backbone.", "module.encoder."])
@pytest.mark.parametrize("case", CASES)
def test_the_keys_tell_the_family_and_all_of_it_loads(case, prefix, tmp_path):
    state, names, options = CASES[case]
    file = {prefix + name: value for name, value in state.items()}
    file["teacher.patch_embed.proj.weight"] = torch.zeros(C, 3, 4, 4)
    found = recognise(file, "a.pth")
    assert set(found.family.names) == names and found.prefix == prefix
    assert case not in NAMES or found.family.names[0] == case
    for name in names:
        assert recognise(file, "a.pth", wanted=name).family is found.family
    other = next(name for name in NAMES if name not in names)
    with pytest.raises(UserError, match=f"--from = '{other}'.*{found.family.names[0]}"):
        recognise(file, "a.pth", wanted=other)

    torch.save({"model": file}, tmp_path / "a.pth")
    model = ViT(ARCH, img_size=8, patch_size=4, **options)
    report = load_backbone(model, tmp_path / "a.pth")
    assert not report.missing and not report.unexpected
    assert report.outside == len(found.left_out) >= 1
    assert f"recognised as {found.family}" in str(report)
    assert torch.equal(model.layers[1].ffn.layers[1].weight, state["blocks.1.mlp.fc2.weight"])
    if "blocks.0.attn.q_bias" in state:
        q, k, v = model.layers[0].attn.qkv.bias.detach().chunk(3)
        assert torch.equal(q, state["blocks.0.attn.q_bias"]) and not k.any()
        assert torch.equal(v, state["blocks.0.attn.v_bias"])
    if "blocks.1.gamma_2" in state:
        assert torch.equal(model.layers[1].ffn.gamma2.weight, state["blocks.1.gamma_2"])


def test_every_name_is_answered_to():
    assert {name for family in FAMILIES for name in family.names} == set(NAMES)


OWN = {
    "backbone.patch_embed.projection.weight": (C, 3, 4, 4),
    "backbone.layers.0.attn.qkv.weight": (3 * C, C),
}
REFUSED = {
    "registers": (vit(FUSED, {"reg_token": (1, 4, C)}), "reg_token"),
    "distilled": (vit(FUSED, {"dist_token": (1, 1, C)}), "dist_token"),
    "pre-norm": (vit(FUSED, {"norm_pre.weight": (C,)}), "norm_pre.weight"),
    "query norm": (vit(FUSED | {"attn.q_norm.weight": (C,)}), "blocks.0.attn.q_norm.weight"),
    "gated": (vit(FUSED | {"mlp.w12.weight": (C,)}), "blocks.0.mlp.w12.weight"),
    "hierarchical": (vit(FUSED, name="layers.0.blocks"), "layers.0.blocks.0.norm1.weight"),
    "no blocks": (tensors(STEM), "first unknown keys"),
    "Hugging Face's DINOv2": (
        tensors(
            {
                "embeddings.patch_embeddings.projection.weight": (C, 3, 4, 4),
                "encoder.layer.0.layer_scale1.lambda1": (C,),
            }
        ),
        "encoder.layer.0.layer_scale1.lambda1",
    ),
    "mmpretrain's DINOv2": (
        tensors(OWN | {"backbone.layers.0.ffn.w12.weight": (C,)}),
        "backbone.layers.0.ffn.w12.weight",
    ),
    "mmpretrain's CLIP": (tensors(OWN | {"backbone.pre_norm.weight": (C,)}), "backbone.pre_norm"),
    "mmpretrain's distilled": (tensors(OWN | {"backbone.dist_token": (1, 1, C)}), "dist_token"),
    "mmpretrain's hierarchical": (
        tensors(
            {"backbone.patch_embed.projection.weight": (C, 3, 4, 4), "backbone.stages.0": (1,)}
        ),
        "backbone.stages.0",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_another_transformer_is_refused_by_its_first_unknown_key(case):
    state, told = REFUSED[case]
    with pytest.raises(UserError, match=f"x.pth.*{told}"):
        recognise(state, "x.pth")


def test_a_file_without_a_vit_is_not_recognised():
    assert recognise(tensors({"backbone.conv1.weight": (4, 3, 7, 7)}), "x.pth") is None


def test_positions_without_a_cls_row_get_one_that_changes_nothing():
    state = vit(FUSED)
    state["pos_embed"] = state["pos_embed"][:, 1:]  # timm's no_embed_class
    table = recognise(state, "a.pth").state["pos_embed"]
    assert table.shape == (1, 5, C) and not table[:, 0].any()
    assert torch.equal(table[:, 1:], state["pos_embed"])


def test_cls_is_left_out_where_the_model_has_none(tmp_path):
    state = vit(FUSED)
    torch.save({"model": state}, tmp_path / "a.pth")
    model = ViT(ARCH, img_size=8, patch_size=4, with_cls_token=False, **LEARNED)
    report = load_backbone(model, tmp_path / "a.pth")
    assert torch.equal(model.pos_embed, state["pos_embed"][:, 1:])
    assert report.unexpected == ("cls_token",) and report.resized == ("pos_embed",)


def test_another_family_than_the_models_explains_itself(tmp_path):
    torch.save(CASES["beit"][0], tmp_path / "a.pth")
    with pytest.raises(UserError, match="pretrained: 2 blocks.*rel_pos_bias='shared', layer_scale"):
        load_backbone(ViT(ARCH, img_size=8, patch_size=4), tmp_path / "a.pth")
    torch.save(CASES["plain"][0], tmp_path / "b.pth")
    with pytest.raises(UserError, match="set patch_size to 4"):
        load_backbone(ViT(ARCH, img_size=8, patch_size=2), tmp_path / "b.pth")


def test_query_key_and_value_of_one_layer_must_all_be_there():
    names = ("query", "value")
    state = tensors({f"encoder.layer.0.attention.attention.{n}.weight": (C, C) for n in names})
    state["embeddings.patch_embeddings.projection.weight"] = torch.zeros(C, 3, 4, 4)
    with pytest.raises(UserError, match="encoder.layer.0.attention.attention.query.weight"):
        recognise(state, "x.pth")
