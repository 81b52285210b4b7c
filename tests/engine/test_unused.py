"""What no output needs does not train, and every other parameter gets a gradient."""

import copy
import logging
from types import SimpleNamespace

import pytest
import torch
from mmengine.model import MMDistributedDataParallel
from mmengine.registry import MODELS, DefaultScope

from mimseg.engine.unused import UntrainedHook, freeze_unused, report_unreduced
from mimseg.errors import UserError
from mimseg.outputs import Needs

ARCH = dict(embed_dims=48, num_layers=6, num_heads=4, feedforward_channels=96)
VIT = dict(type="mimseg.ViT", arch=ARCH, img_size=32, patch_size=8)


def relations(tiny_mim, **options):
    """TinyMIM's slots: the loss reads query, key and value of one block."""
    head = dict(type="mimseg.RelationHead", **options)
    backbone = VIT | dict(rel_pos_bias="per_block", layer_scale=0.1, mask_mode="token")
    slots = dict(normalization=None, masking=None, loss=dict(type="mimseg.RelationKLLoss"))
    teacher = dict(type="mimseg.ViTTeacher", init="random")
    return tiny_mim(backbone=backbone, head=head, teacher=teacher, positions="all", **slots)


def gradients(model, loss):
    """Names of what trains, and of what got a gradient."""
    loss.backward()
    parameters = dict(model.named_parameters())
    return (
        {name for name, p in parameters.items() if p.requires_grad},
        {name for name, p in parameters.items() if p.grad is not None},
    )


@pytest.mark.parametrize(
    "options, message",
    [
        (dict(out_indices=(1, 2, 3, 4)), "block 5"),
        (dict(out_indices=(1, 2, 3), final_norm=True), "blocks 4, 5 and ln1"),
        (dict(out_indices=(1, -1), final_norm=True, mask_mode="token"), "mask_token"),
        (dict(out_indices=(5,), final_norm=True), None),
        (dict(out_indices=(0,), frozen=True), None),
        (
            dict(out_indices=(0, 1), rel_pos_bias="shared", with_cls_token=False),
            "blocks 2, 3, 4, 5",
        ),
    ],
)
def test_a_dense_backbone(options, message):
    model = MODELS.build(VIT | dict(final_norm=False) | options)
    state = {name: value.clone() for name, value in model.state_dict().items()}
    text = freeze_unused(SimpleNamespace(backbone=model))
    expected = message and f"backbone {message}: not used by out_indices {model.out_indices}"
    assert text == expected
    assert list(model.state_dict()) == list(state)  # a checkpoint is the same
    if not model.frozen:
        outputs = model(torch.rand(2, 3, 32, 32))
        trained, reached = gradients(model, sum(out.square().sum() for out in outputs))
        assert trained == reached


@pytest.mark.parametrize(
    "options, message",
    [
        ({}, "block 5 after its query, key and value, ln1 and mask_token"),
        (
            dict(student_layer=2),
            "block 2 after its query, key and value, blocks 3, 4, 5, ln1 and mask_token",
        ),
    ],
)
def test_a_pretraining_that_reads_an_early_block(tiny_mim, views, options, message):
    model = relations(tiny_mim, **options)
    assert freeze_unused(model) == f"backbone {message}: not used by the objectives"
    trained, reached = gradients(model, sum(model.loss(views).values()))
    assert trained == reached
    assert "backbone.layers.2.attn.qkv.weight" in trained
    assert not model.backbone.layers[5].ffn.layers[1].weight.requires_grad


def test_a_pretraining_that_reads_the_end_trains_whole(tiny_mim, views):
    model = tiny_mim(backbone=VIT)
    assert freeze_unused(model) is None
    trained, reached = gradients(model, sum(model.loss(views).values()))
    assert trained == reached


def test_heads_of_a_segmentor_that_leave_maps_out():
    head = dict(type="FCNHead", channels=8, num_classes=2, in_channels=48)
    backbone = VIT | dict(out_indices=(1, 2, 3, 5), final_norm=True)
    DefaultScope.get_instance("test heads", scope_name="mmseg")
    cfg = dict(type="mmseg.EncoderDecoder", backbone=backbone, decode_head=head | dict(in_index=0))
    cfg["auxiliary_head"] = [head | dict(in_index=-2)]
    text = freeze_unused(MODELS.build(copy.deepcopy(cfg)))
    assert text == "backbone blocks 4, 5 and ln1: not used by heads that read (1, 3)"
    cfg["decode_head"]["in_index"] = 3
    assert freeze_unused(MODELS.build(cfg)) is None


def test_what_else_gets_no_gradient_is_named_once(caplog):
    model = torch.nn.ModuleDict(dict(used=torch.nn.Linear(2, 2), idle=torch.nn.Linear(2, 2)))
    optimizer = torch.optim.AdamW(model.parameters())
    logger = logging.getLogger("test unused")
    wrapper = SimpleNamespace(optimizer=optimizer)
    runner = SimpleNamespace(model=model, optim_wrapper=wrapper, logger=logger)
    hook = UntrainedHook()
    hook.after_train_iter(runner, 0)  # accumulating: the optimizer has not stepped
    for _ in range(2):
        model["used"](torch.ones(1, 2)).sum().backward()
        optimizer.step()
        hook.after_train_iter(runner, 0)
    (record,) = caplog.records
    assert "first step for idle.weight, idle.bias: they do not train" in record.message


class _Relations(torch.nn.Module):
    """A student and the loss of its query in one block, as DDP takes a model."""

    def __init__(self, freeze):
        super().__init__()
        self.backbone, self.masking = MODELS.build(VIT), None
        self.needs = Needs(qkv=frozenset({3}), tokens=False)
        if freeze:
            freeze_unused(self)

    def student_needs(self):
        return self.needs

    def forward(self, images):
        out = self.backbone.encode(images, needs=self.needs)
        return sum(part.square().sum() for part in out.qkv[3])


def two_steps(model):
    wrapped = MMDistributedDataParallel(model)
    with report_unreduced(wrapped):
        for _ in range(2):
            wrapped(torch.rand(1, 3, 32, 32)).backward()


def test_a_distributed_run_needs_no_search_for_unused_parameters(tmp_path):
    """DDP asks the same of one process as of many."""
    store = f"file://{tmp_path}/store"
    torch.distributed.init_process_group("gloo", init_method=store, rank=0, world_size=1)
    try:
        two_steps(_Relations(freeze=True))
        with pytest.raises(UserError, match="none came for backbone.layers.3.attn.proj"):
            two_steps(_Relations(freeze=False))
    finally:
        torch.distributed.destroy_process_group()
