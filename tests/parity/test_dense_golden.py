"""The student as a dense backbone equals the official segmentation and detection ones."""

from dataclasses import replace

import pytest
import torch
from mmengine.optim import build_optim_wrapper

from mimseg.algorithms.outputs import Needs
from mimseg.checkpoints.families import BEIT, DBOT, TINYMIM
from mimseg.checkpoints.loader import load_backbone
from mimseg.layers.relative_position import resize_relative_table
from mimseg.registry import MODELS

from golden import Case, arch, cases, needs_golden  # isort: skip

pytestmark = needs_golden
NECK = {"fpn1": "neck.levels.0", "fpn2": "neck.levels.1"}
DETECTORS = [name for name in cases() if name.startswith("det_")] or ["none"]


class Dense(torch.nn.Module):
    """Backbone and per-level pyramid, as in a segmentor."""

    def __init__(self, h, **options):
        super().__init__()
        size = h["img_size"]
        backbone = dict(
            type="mimseg.ViT",
            arch=arch({"mlp_ratio": 4, **h}),
            img_size=size if isinstance(size, int) else tuple(size),
            patch_size=h.get("patch_size", 16),
            out_indices=h["out_indices"],
            final_norm=False,
            norm_eps=h.get("layer_norm_eps", 1e-6),
        )
        self.backbone = MODELS.build(backbone | options)
        neck = dict(type="mimseg.FeaturePyramid", in_channels=h["embed_dim"], norm="BN")
        self.neck = MODELS.build(neck)

    def take(self, case, family):
        """Load the case's state, all of it."""
        family = replace(family, modules=NECK, fixed=("relative_position_index",))
        self.load_state_dict(family.to_ours(case.part("state/")), strict=True)
        return self.eval()

    def compare(self, case, images):
        with torch.no_grad():
            for index, level in enumerate(self.neck(self.backbone(images))):
                case.close(level, f"out/level{index}")


def pretrained(case, family, path):
    """The case's pretraining checkpoint as a file of ours."""
    state = family.to_ours(case.part("in/pretrain/"))
    torch.save({"state_dict": state}, path)
    return str(path)


def test_segmentation_from_absolute_positions(tmp_path):
    case = Case("mae_seg_backbone")
    h = case.h
    options = dict(pos_embed="learned", rel_pos_bias="per_block", layer_scale=h["init_values"])
    model = Dense(h, **options)
    model.backbone.init_weights()
    report = load_backbone(model.backbone, pretrained(case, DBOT, tmp_path / "mae.pth"))
    case.close(model.backbone.pos_embed, "out/pos_embed_after_loading")
    assert report.resized == ("pos_embed",)
    fresh = {name.rsplit(".", 2)[-2] for name in report.missing if "gamma" in name}
    assert fresh == {"gamma1", "gamma2"}
    for name, (low, high) in case.case["lists"]["fresh_values"].items():
        (ours,) = TINYMIM.to_ours({name: torch.empty(0)})
        value = model.backbone.get_parameter(ours.removeprefix("backbone."))
        assert (value.min(), value.max()) == (low, high), name

    model.take(case, TINYMIM)
    model.compare(case, case["in/image"])
    blocks = (i for i in range(h["depth"]) if f"out/block{i}_tokens" in case.tensors)
    with torch.no_grad():
        _, taps, _ = model.backbone.tap(case["in/image"], Needs(layers=frozenset(blocks)))
    for index, tokens in taps.items():
        case.close(tokens, f"out/block{index}_tokens")
    case.assert_complete()


def test_segmentation_from_a_shared_table(tmp_path):
    case = Case("beit2_seg_from_shared")
    h = case.h
    options = dict(
        pos_embed="none",
        rel_pos_bias="per_block",
        rel_pos_resize="geometric",
        layer_scale=h["init_values"],
    )
    model = Dense(h, **options)
    load_backbone(model.backbone, pretrained(case, BEIT, tmp_path / "beit.pth"))
    for block in model.backbone.layers:
        case.close(block.attn.relative_position_bias_table, "out/table_after_loading")
    for key in case.part("out/edge_table_"):
        old, new = (((int(side) + 1) // 2,) * 2 for side in key.split("_to_"))
        table = resize_relative_table(case[f"in/edge_table_{key}"], old, new, "geometric")
        case.close(table, f"out/edge_table_{key}")
    model.take(case, BEIT)
    model.compare(case, case["in/image"])
    case.assert_complete()


@pytest.mark.parametrize("name", DETECTORS)
def test_detection(name):
    case = Case(name)
    images = case["in/image"]
    assert list(images.shape[2:]) == case.h["input_hw"]
    model = Dense(case.h, pos_embed="learned", shifted_sampling=True).take(case, TINYMIM)
    backbone = model.backbone
    model.compare(case, images)
    with torch.no_grad():
        case.close(backbone._position(backbone.grid(images)), "out/pos_embed_used")
        needs = Needs(layers=frozenset({case.h["out_indices"][0]}))
        _, taps, _ = backbone.tap(images, needs)
        (first,) = taps.values()
        case.close(first, "out/first_tap_tokens")
        x, pos = backbone._add_position(*backbone.patch_embed(images))
        case.close(backbone._prepend_cls(x, pos), "out/tokens_in")
    case.assert_complete()


@needs_golden
def test_position_embedding_of_a_non_square_detector_is_loaded(tmp_path):
    """The official loader leaves it at zero; ours resizes it to the model's grid."""
    case = Case("det_ibot_backbone_square")
    loader = case.case["lists"]["loader"]["config_like_nonsquare_img_size"]
    assert loader["pos_embed_all_zero_after"]
    state = TINYMIM.to_ours({k: v for k, v in case.part("state/").items() if "fpn" not in k})
    state["backbone.pos_embed"] = case["in/pretrain_pos_embed"]
    torch.save({"state_dict": state}, tmp_path / "square.pth")
    model = Dense({**case.h, "img_size": loader["img_size"]}, pos_embed="learned")
    report = load_backbone(model.backbone, str(tmp_path / "square.pth"))
    assert report.resized == ("pos_embed",)
    assert list(model.backbone.pos_embed.shape) == loader["pos_embed_shape"]
    assert model.backbone.pos_embed[:, 1:].abs().mean() > 0.1


def test_layer_decay():
    """Learning rate and weight decay of every parameter, by the official constructor's rules."""
    case = cases()["layer_decay"]
    h, tables = case["hparams"], case["lists"]
    wrapper = dict(
        type="OptimWrapper",
        optimizer=dict(type="AdamW", lr=h["base_lr"], weight_decay=h["base_wd"]),
        constructor="mimseg.LayerDecayConstructor",
        paramwise_cfg=dict(layer_decay_rate=h["layer_decay_rate"], decay_embeddings=True),
    )
    for table in (t for t in tables.values() if isinstance(t, dict)):
        named = {name: row["shape"] for name, row in table.items()}
        heads = next(s for n, s in named.items() if n.endswith("bias_table"))[1]
        shared = "backbone.rel_pos_bias.relative_position_bias_table" in named
        width, _, patch, _ = named["backbone.patch_embed.proj.weight"]
        hidden = named["backbone.blocks.0.mlp.fc1.weight"][0]
        absolute = "backbone.pos_embed" in named
        model = torch.nn.Module()
        model.backbone = MODELS.build(
            dict(
                type="mimseg.ViT",
                arch=arch(dict(embed_dim=width, depth=h["depth"], num_heads=heads, mlp_ratio=1))
                | dict(feedforward_channels=hidden),
                img_size=2 * patch,
                patch_size=patch,
                pos_embed="learned" if absolute else "none",
                rel_pos_bias="shared" if shared else "per_block",
                layer_scale=0.1,
                final_norm="backbone.norm.weight" in named,
            )
        )
        model.neck = MODELS.build(dict(type="mimseg.FeaturePyramid", in_channels=width, norm="BN"))
        for name in ("decode_head", "auxiliary_head"):
            head = torch.nn.ModuleDict({"conv_seg": torch.nn.Conv2d(4, 3, 1)})
            if f"{name}.bn.weight" in named:
                head["bn"] = torch.nn.BatchNorm2d(4)
            setattr(model, name, head)

        family = replace(TINYMIM, modules=NECK)
        expected = {}
        for name, row in table.items():
            if name.startswith("backbone."):
                (name,) = family.to_ours({name.removeprefix("backbone."): None})
            expected[name] = row
        groups = build_optim_wrapper(model, wrapper).optimizer.param_groups
        found = {name: group for group in groups for name in group["names"]}
        assert set(found) == set(expected)
        for name, row in expected.items():
            assert found[name]["lr"] == pytest.approx(row["lr"]), name
            assert found[name]["weight_decay"] == row["weight_decay"], name
            assert list(model.get_parameter(name).shape) == row["shape"], name
