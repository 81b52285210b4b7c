"""Hugging Face's classes against ours, both ways. Run by hand; pytest does not collect it.

transformers is no dependency (mmpretrain changes its imports where it is installed), so this runs
in an environment of its own:

    python -m venv hf && hf/bin/pip install -e . transformers
    hf/bin/python tests/checkpoints/hf_check.py
"""

import sys
import tempfile
from pathlib import Path

import torch
import transformers
from safetensors.torch import load_file
from transformers import (
    BeitConfig,
    BeitForMaskedImageModeling,
    BeitModel,
    ViTConfig,
    ViTMAEConfig,
    ViTMAEForPreTraining,
    ViTModel,
)

from mimseg.checkpoints.convert import convert, read_backbone, write_weights
from mimseg.checkpoints.loader import load_backbone
from mimseg.students.vit import ViT

SIZES = dict(
    hidden_size=32,
    num_hidden_layers=3,
    num_attention_heads=4,
    intermediate_size=64,
    image_size=32,
    patch_size=8,
    layer_norm_eps=1e-6,
)
ARCH = dict(embed_dims=32, num_layers=3, num_heads=4, feedforward_channels=64)
OURS = dict(arch=ARCH, img_size=32, patch_size=8, out_type="raw")
BEIT = dict(pos_embed="none", layer_scale=0.1)


def shaken(module):
    """`module` with every weight random, those that start at zero too."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)
    return module.eval()


def compare(name, ours, theirs, images):
    with torch.no_grad():
        expected = theirs(images).last_hidden_state
        difference = float((ours.eval()(images)[0] - expected).abs().max())
    print(f"{name}: largest difference {difference:.1e}")
    return difference < 1e-4


def hf_cases():
    """(name, config, class, options of ours)."""
    beit = dict(use_mean_pooling=False, layer_scale_init_value=0.1, **SIZES)
    tables = dict(use_relative_position_bias=True)
    shared = dict(use_shared_relative_position_bias=True)
    return [
        ("ViTModel", ViTConfig(**SIZES), ViTModel, dict(pos_embed="learned")),
        (
            "BeitModel, tables per block",
            BeitConfig(**beit, **tables),
            BeitModel,
            BEIT | dict(rel_pos_bias="per_block"),
        ),
        (
            "BeitModel, shared table, absolute positions",
            BeitConfig(**beit, **shared, use_absolute_position_embeddings=True),
            BeitModel,
            dict(pos_embed="learned", layer_scale=0.1, rel_pos_bias="shared"),
        ),
    ]


def check(folder: Path) -> bool:
    torch.manual_seed(0)
    images, fine = torch.randn(2, 3, 32, 32), []
    for name, config, kind, options in hf_cases():
        theirs = shaken(kind(config, add_pooling_layer=False))
        there = folder / kind.__name__
        theirs.save_pretrained(there)
        write_weights(folder / "memory.safetensors", theirs.state_dict())
        for source in (there / "model.safetensors", folder / "memory.safetensors"):
            ours = ViT(**OURS | options)
            load_backbone(ours, source)
            fine.append(compare(f"{name} -> mimseg ({source.stem})", ours, theirs, images))

        ours = shaken(ViT(**OURS | options))
        torch.save({"state_dict": ours.state_dict()}, folder / "ours.pth")
        lines = convert(folder / "ours.pth", there / "model.safetensors", to="hf", force=True)
        print("\n".join(lines))
        theirs, info = kind.from_pretrained(
            there, add_pooling_layer=False, output_loading_info=True
        )
        fine.append(not any(info.get(key) for key in ("missing_keys", "unexpected_keys")))
        fine.append(compare(f"mimseg -> {name}", ours, theirs.eval(), images))

    # whole pretraining models, of which only the names matter
    mae = shaken(ViTMAEForPreTraining(ViTMAEConfig(decoder_num_hidden_layers=1, **SIZES)))
    config = BeitConfig(use_shared_relative_position_bias=True, use_mask_token=True, **SIZES)
    beit = shaken(BeitForMaskedImageModeling(config))
    for model, norm in ((mae, mae.vit.layernorm), (beit, beit.layernorm)):
        model.save_pretrained(folder / "whole")
        _, found = read_backbone(folder / "whole/model.safetensors")
        print(found)
        fine.append(torch.equal(found.state["ln1.weight"], norm.weight))
        saved = load_file(folder / "whole/model.safetensors")
        token = saved.get("beit.embeddings.mask_token")
        fine.append(token is None or torch.equal(found.state["mask_token"], token))
    return all(fine)


if __name__ == "__main__":
    print("transformers", transformers.__version__)
    with tempfile.TemporaryDirectory() as folder:
        sys.exit(0 if check(Path(folder)) else 1)
