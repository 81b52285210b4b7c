"""BEiT and BEiT v2 as five slots equal mmpretrain's own: same weights, mask, loss and gradients.

Of mmpretrain's defects these bear on the test: its target generator is a submodule, so `train()`
reaches it and VQ-KD's codebook would move in every step, and its codebook would first be drawn by
k-means on the first batch (both are switched off here; ours never does either); its neck for
BEiT v2 asks for `num_layers` in the shape and reads `depth`.
"""

import pytest
import torch
from mmengine.registry import DefaultScope, init_default_scope

from mimseg.registry import MODELS

ARCH = dict(embed_dims=48, num_layers=3, num_heads=4, feedforward_channels=96)
MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
SIZE, PATCH, WORDS = 32, 8, 40
DALLE = dict(type="mmpretrain.DALL-E", n_hid=8, n_blk_per_group=1, vocab_size=WORDS)
ENCODER = dict(arch=ARCH | dict(num_layers=1), img_size=SIZE, patch_size=PATCH)
VQKD = dict(type="mmpretrain.VQKD", encoder_config=ENCODER, num_embed=WORDS, embed_dims=8)
# what BEiT v2's config says of the encoder, which is what our teacher's defaults must be
BASE_ENCODER = dict(
    out_indices=-1,
    final_norm=True,
    out_type="featmap",
    with_cls_token=True,
    use_abs_pos_emb=True,
    use_rel_pos_bias=False,
    use_shared_rel_pos_bias=False,
    layer_scale_init_value=0.0,
)


def ours(version):
    first = version == 1
    heads = (
        dict(type="mimseg.LinearHead"),
        dict(
            type="mimseg.PatchAggregationHead",
            in_layer=0,
            num_heads=4,
            mlp_ratio=2.0,
            layer_scale=0.1,
        ),
    )
    model = MODELS.build(
        dict(
            type="mimseg.MaskedImageModeling",
            backbone=dict(
                type="mimseg.ViT",
                arch=ARCH,
                img_size=SIZE,
                patch_size=PATCH,
                mask_mode="token",
                pos_embed="none",
                rel_pos_bias="shared",
                layer_scale=0.1,
                final_norm=first,
            ),
            masking=dict(type="mimseg.RandomMasking", ratio=0.4, seed=3),
            teachers=dict(
                words=dict(
                    type="mimseg.TokenizerTeacher",
                    tokenizer=DALLE if first else VQKD,
                    weights="random",
                )
            ),
            objectives=[
                dict(
                    name="",
                    teacher="words",
                    normalization=dict(type="mimseg.NoNormalization", ids=True),
                    head=heads[version - 1],
                    loss=dict(type="mimseg.CrossEntropyLoss"),
                    weight=1.0 if first else 2.0,  # two predictions: ours is the mean of both
                )
            ],
        )
    )
    model.init_weights()
    return model


def theirs(version):
    init_default_scope("mmpretrain")
    from mmpretrain.registry import MODELS as THEIR_MODELS

    first = version == 1
    head = dict(
        type=f"BEiTV{version}Head",
        embed_dims=48,
        num_embed=WORDS,
        loss=dict(type="CrossEntropyLoss"),
    )
    neck = dict(
        type="BEiTV2Neck",
        num_layers=2,
        early_layers=1,
        backbone_arch=ARCH | dict(depth=3),
        layer_scale_init_value=0.1,
    )
    vqkd = VQKD | dict(encoder_config=BASE_ENCODER | ENCODER, quantize_kmeans_init=False)
    model = THEIR_MODELS.build(
        dict(
            type="BEiT",
            backbone=dict(
                type="BEiTPretrainViT",
                arch=ARCH,
                img_size=SIZE,
                patch_size=PATCH,
                out_indices=[-1] if first else [-3, -1],
                final_norm=first,
                layer_scale_init_value=0.1,
            ),
            neck=None if first else neck,
            head=head,
            target_generator=DALLE if first else vqkd,
        )
    )
    model.init_weights()
    for name, parameter in model.named_parameters():
        if not name.startswith("target_generator."):
            parameter.data += 0.05 * torch.randn_like(parameter)  # no table or bias stays zero
    model.target_generator.eval()
    return model


def their_name(name):
    """Our parameter's name in mmpretrain's model, but for the bias of query, key and value."""
    for part, other in [
        ("objectives.loss.head.layers.", "neck.patch_aggregation."),
        ("objectives.loss.head.norm.", "neck.norm."),
        ("objectives.loss.head.projection.", "head.cls_head."),
        ("attn.gamma1.weight", "gamma_1"),
        ("ffn.gamma2.weight", "gamma_2"),
    ]:
        name = name.replace(part, other)
    return name


def named(tensors, names):
    """Their tensors (weights or gradients) under our names."""
    found = {}
    for name in names:
        other = their_name(name)
        if name.endswith("attn.qkv.bias"):
            stem = other.removesuffix("qkv.bias")
            q, v = tensors[f"{stem}q_bias"], tensors[f"{stem}v_bias"]
            found[name] = torch.cat([q, torch.zeros_like(q), v])
        else:
            found[name] = tensors[other]
    return found


@pytest.mark.parametrize("version", [1, 2])
def test_beit_equals_mmpretrain(version):
    from mmpretrain.structures import DataSample

    torch.manual_seed(0)
    model, reference = ours(version), theirs(version)
    parameters = dict(reference.named_parameters())
    names = [name for name, _ in model.named_parameters()]
    learned = {n: p for n, p in parameters.items() if not n.startswith("target_generator.")}
    covered = {their_name(n) for n in names if not n.endswith("attn.qkv.bias")}
    assert {n for n in learned if not n.endswith(("q_bias", "v_bias"))} == covered
    missing = model.load_state_dict(
        named({name: p.data for name, p in parameters.items()}, names), strict=False
    ).missing_keys
    assert not set(missing) & set(names)
    tokenizer = model.bank["words"].tokenizer
    reference.target_generator.load_state_dict(tokenizer.state_dict())

    images = torch.rand(3, 3, SIZE, SIZE)
    mask = model.masking(3, (4, 4), images.device)
    model.masking.init_weights()
    model.masking.seed.fill_(3)  # the same masks again
    samples = [DataSample().set_mask(m.reshape(4, 4)) for m in mask]
    normed = (images - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)
    # the second mean and std of mmpretrain's data preprocessor, for pixels up to 255
    second = (images * 255 + 31.875) / 318.75 if version == 1 else (images * 255 - 127.5) / 127.5
    expected = sum(reference.loss([normed, second], samples).values())
    expected.backward()
    loss = model.loss({"student": images, "teacher": images})["loss"]
    loss.backward()
    torch.testing.assert_close(loss, expected, rtol=1e-5, atol=1e-6)
    gradients = named({name: p.grad for name, p in learned.items()}, names)
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter.grad, gradients[name], rtol=1e-4, atol=1e-6, msg=name)
        assert parameter.grad.abs().max() > 1e-5, name  # far above the tolerance


def teardown_module():
    DefaultScope._instance_dict.clear()
