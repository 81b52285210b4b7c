"""Every kind of slot made small: the same types, matching grids, a step that trains."""

import copy

import pytest
import torch
import torch.nn.functional as F
from mmengine.config import Config

from mimseg.engine.stages import stage_configs
from mimseg.errors import UserError
from mimseg.outputs import TeacherOutput
from mimseg.registry import MODELS
from mimseg.rehearse.config import shrink
from mimseg.rehearse.size import Size
from mimseg.rehearse.teachers import SmallTeacher
from mimseg.teachers.base import Teacher

DROP = dict(type="mimseg.ViT", arch="base", img_size=224, patch_size=16, mask_mode="drop")
TOKEN = {**DROP, "mask_mode": "token", "rel_pos_bias": "shared", "pos_embed": "none"}
LAYER_NORM = dict(type="mimseg.TokenLayerNorm")
IDS = dict(type="mimseg.NoNormalization", ids=True)
RANDOM = dict(type="mimseg.RandomMasking", ratio=0.75)
BLOCK = dict(type="mimseg.BlockMasking", ratio=0.4)
LINEAR = dict(type="mimseg.LinearHead")
DECODER = dict(type="mimseg.DecoderHead")
SMOOTH = dict(type="mimseg.SmoothL1Loss", beta=2.0)
ENTROPY = dict(type="mimseg.CrossEntropyLoss")


def model(teacher, backbone=DROP, masking=RANDOM, norm=LAYER_NORM, head=DECODER, loss=SMOOTH, **kw):
    slots = dict(backbone=backbone, masking=masking, normalization=norm, head=head, loss=loss)
    return dict(type="mimseg.MaskedImageModeling", teacher=teacher, **slots, **kw)


def config(model, teacher_view=None, **more):
    views = dict(type="mimseg.MIMViews", student=dict(size=224), teacher=teacher_view)
    dataset = dict(type="mmpretrain.CustomDataset", data_root="x", pipeline=[views])
    loader = dict(batch_size=512, num_workers=8, persistent_workers=True, dataset=dataset)
    return Config(copy.deepcopy(dict(model=model, train_dataloader=loader, **more)))


def clip(name="ViT-B-16-quickgelu", **options):
    return dict(type="mimseg.OpenCLIPTeacher", model=name, weights="hub:openai", **options)


def timm(name, **options):
    return dict(type="mimseg.TimmTeacher", model=name, weights="random", **options)


def relation(**options):
    head = dict(type="mimseg.RelationHead", **options)
    return dict(
        head=head,
        norm=dict(type="mimseg.NoNormalization", layers=()),
        loss=dict(type="mimseg.RelationKLLoss"),
        masking=None,
        positions="all",
        with_cls=True,
    )


def dalle():
    return dict(
        type="mimseg.TokenizerTeacher",
        weights="dalle.pth",
        tokenizer=dict(type="mmpretrain.DALL-E"),
    )


def vqkd():
    return dict(
        type="mimseg.TokenizerTeacher", weights="x.pth", tokenizer=dict(type="mmpretrain.VQKD")
    )


AGGREGATION = dict(type="mimseg.PatchAggregationHead", in_layer=8)
EMA_NORM = dict(type="mimseg.TokenLayerNorm", layers=(6, 7, 8, 9, 10, 11))
RESNET = timm("resnet50", stage=3)
HOG = dict(type="mimseg.HOGTeacher")
MILAN = dict(
    masking=dict(type="mimseg.AttentionMasking", ratio=0.75),
    head=dict(type="mimseg.CrossAttentionDecoderHead", embed_dims=512, depth=8, num_heads=16),
    loss=dict(type="mimseg.CosineLoss", scale=2.0),
)
CASES = {
    "mae": config(model(dict(type="mimseg.PixelTeacher"), loss=dict(type="mimseg.L2Loss"))),
    "hog": config(model(HOG, backbone=TOKEN, head=LINEAR)),
    "clip-b": config(model(clip(), TOKEN, BLOCK, head=LINEAR)),
    "clip-l-196": config(
        model(clip("ViT-L-14-quickgelu", output="proj"), TOKEN, BLOCK, head=LINEAR), dict(size=196)
    ),
    "clip-l-input": config(
        model(clip("ViT-L-14-quickgelu", input_size=196), TOKEN, BLOCK, head=LINEAR)
    ),
    "dino": config(model(timm("vit_base_patch16_224.dino", final_norm=True))),
    "dinov2": config(model(timm("vit_base_patch14_reg4_dinov2.lvd142m", input_size=196))),
    "resnet-224": config(model(RESNET)),
    "resnet-448": config(model(timm("resnet50", stage=4), loss=SMOOTH), dict(size=448)),
    "milan": config(model(clip(output="proj"), DROP, **MILAN)),
    "beit": config(model(dalle(), TOKEN, BLOCK, IDS, LINEAR, ENTROPY), dict(size=112)),
    "beitv2": config(
        model(vqkd(), {**TOKEN, "final_norm": False}, BLOCK, IDS, AGGREGATION, ENTROPY)
    ),
    "data2vec": config(
        model(dict(type="mimseg.EMATeacher"), TOKEN, BLOCK, EMA_NORM, LINEAR),
    ),
    "depth-0": config(model(dict(type="mimseg.ViTTeacher", init="student", depth=0))),
    "checkpoint": config(
        model(dict(type="mimseg.ViTTeacher", init="a.pth", backbone={**DROP, "arch": "large"}))
    ),
    "tinymim": config(
        model(
            dict(type="mimseg.ViTTeacher", init="a.pth", backbone={**DROP, "arch": "large"}),
            {**DROP, "last_block_heads": 16},
            **relation(teacher_layer=17),
        )
    ),
    "relations": config(
        model(
            dict(type="mimseg.ViTTeacher", init="a.pth", backbone={**DROP, "arch": "large"}),
            **relation(num_heads=16)
            | dict(norm=dict(type="mimseg.Relations", layer=17, num_heads=16)),
        )
    ),
}


def types(node):
    found = []
    for value in node.values():
        if isinstance(value, dict):
            found += [value["type"], *types(value)] if "type" in value else types(value)
    return found


def step(cfg):
    net = MODELS.build(copy.deepcopy(cfg.model))
    net.init_weights()
    losses = net.loss({view: torch.rand(2, 3, 64, 64) for view in ("student", "teacher")})
    sum(losses.values()).backward()
    assert all(torch.isfinite(loss) for loss in losses.values())
    return net


@pytest.mark.parametrize("name", CASES)
def test_types_stay_and_a_step_runs(name):
    cfg = copy.deepcopy(CASES[name])
    before = types(cfg.model.to_dict())
    shrink(cfg)
    assert types(cfg.model.to_dict()) == before
    net = step(cfg)
    assert net.backbone.embed_dims == 48 and net.backbone.num_layers == 6
    assert net.backbone.base_grid == (8, 8)
    assert sum(p.numel() for p in net.backbone.parameters()) < 300_000
    for teacher in net.bank.teachers.values():
        assert sum(p.numel() for p in teacher.parameters()) < 400_000
    grads = [p.grad for p in net.backbone.layers[0].parameters()]
    assert any(g is not None and g.abs().sum() > 0 for g in grads)
    loader = cfg.train_dataloader
    assert loader.batch_size <= 8 and loader.num_workers == 0
    view = loader.dataset.pipeline[0]
    assert view.student.size == 64
    # what the pipeline gives the teacher is what it was made for
    side = (view.teacher or view.student).size
    net.eval()(inputs={"student": torch.rand(1, 3, 64, 64)}, mode="tensor")
    needs = next(iter(net.objectives.values())).teacher_needs
    out = net.bank.run({"teacher": torch.rand(1, 3, side, side)}, {"teacher": needs})
    assert out["teacher"].grid == (8, 8)


def test_what_follows_in_proportion():
    cfg = copy.deepcopy(CASES["tinymim"])
    shrink(cfg, width=96, depth=6, img_size=32, patch_size=4)
    assert cfg.model.backbone.arch.embed_dims == 96 and cfg.model.backbone.img_size == 32
    assert cfg.model.backbone.last_block_heads == cfg.model.teacher.backbone.arch.num_heads == 8
    assert cfg.model.backbone.arch.num_heads == 6
    assert cfg.model.head.teacher_layer == 3  # the 18th of 24 is the fourth or fifth of six
    cfg = copy.deepcopy(CASES["relations"])
    shrink(cfg)
    assert cfg.model.normalization.layer == 3
    assert cfg.model.normalization.num_heads == cfg.model.head.num_heads == 8
    cfg = copy.deepcopy(CASES["data2vec"])
    shrink(cfg, depth=4)
    assert cfg.model.normalization.layers == (1, 2, 3)
    cfg = copy.deepcopy(CASES["beitv2"])
    shrink(cfg)
    assert cfg.model.head.in_layer == 3 and cfg.model.head.num_heads == 6
    assert [Size().layer(i, 12) for i in (0, 10, 11, -1, -12)] == [0, 4, 5, -1, -6]
    assert Size().layer(-1, 0) == -1
    cfg = copy.deepcopy(CASES["clip-l-196"])
    shrink(cfg)
    assert cfg.train_dataloader.dataset.pipeline[0].teacher.size == 56  # eight patches of seven
    cfg = copy.deepcopy(CASES["depth-0"])
    shrink(cfg)
    assert cfg.model.teacher.depth == 0


def test_several_teachers():
    objectives = [
        dict(name="a", teacher="clip", normalization=LAYER_NORM, head=LINEAR, loss=SMOOTH),
        dict(
            name="b",
            teacher="dino",
            normalization=dict(type="mimseg.PHISNormalization", layers=(-2,)),
            head=LINEAR,
            loss=dict(type="mimseg.CosineLoss"),
        ),
    ]
    teachers = dict(clip=clip("ViT-L-14-quickgelu"), dino=timm("vit_small_patch16_224.dino"))
    shape = dict(type="mimseg.MaskedImageModeling", backbone=TOKEN, masking=BLOCK)
    cfg = config(dict(**shape, teachers=teachers, objectives=objectives))
    shrink(cfg)
    assert cfg.model.teachers.clip.input_size == 56
    assert cfg.model.objectives[1].normalization.layers == (-2,)
    step(cfg)


def chain():
    """TinyMIM's: a large teacher, then base, then small, each the next one's teacher."""
    teacher = dict(type="mimseg.ViTTeacher", init="large.pth", backbone={**DROP, "arch": "large"})
    student = {**DROP, "last_block_heads": 16}
    small = {"model.backbone.arch": "small", "model.backbone.last_block_heads": 16}
    large = dict(input_size=448, final_norm=True)
    options = {**small, "model.head.teacher_layer": -1}
    stages = [
        dict(name="base"),
        dict(name="small", teacher="base", options=options, teacher_options=large),
    ]
    cfg = config(model(teacher, student, **relation(teacher_layer=17)), stages=stages)
    cfg.train_cfg = dict(max_epochs=3)
    cfg.randomness = dict(seed=0)
    return cfg


def test_stages():
    cfg = chain()
    shrink(cfg)
    cfg.work_dir = "w"
    first, second = stage_configs(copy.deepcopy(cfg)).values()
    assert first.model.backbone.last_block_heads == 8 and first.model.head.teacher_layer == 3
    assert second.model.backbone.arch.num_heads == 3
    assert second.model.backbone.last_block_heads == 8  # as the block that teaches it
    assert second.model.head.teacher_layer == -1 and second.model.teacher.init == "w/base"
    assert second.model.teacher.final_norm and second.model.teacher.input_size == 64
    assert second.train_dataloader.batch_size == 8
    step(first)
    second.model.teacher.init = "random"
    step(second)


class Counting(Teacher):
    """A teacher of one's own: as many numbers per patch as its config says."""

    def __init__(self, patch_size, width, **kwargs):
        super().__init__(**kwargs)
        self.stride, self.out_channels = patch_size, width

    def targets(self, images, needs):
        tokens = F.avg_pool2d(images, self.stride).mean(1).flatten(1)[..., None]
        grid = self.grid_of(*images.shape[2:])
        return TeacherOutput(grid, tokens={-1: tokens.expand(-1, -1, self.out_channels)})


class Shrinkable(Counting):
    @staticmethod
    def small_form(cfg, size, student):
        cfg.update(patch_size=size.patch(cfg["patch_size"], student.patch_size), width=5)
        return SmallTeacher(size.grid * cfg["patch_size"])


def test_a_teacher_of_ones_own_says_how(monkeypatch):
    for kind in (Counting, Shrinkable):
        monkeypatch.setitem(MODELS._module_dict, kind.__name__, kind)
    teacher = dict(patch_size=16, width=700)
    cfg = config(model(dict(type="mimseg.Counting", **teacher)))
    with pytest.raises(UserError, match="teacher.type = 'mimseg.Counting'.*small_form"):
        shrink(cfg)
    cfg = config(model(dict(type="mimseg.Shrinkable", **teacher)))
    shrink(cfg)
    assert (cfg.model.teacher.patch_size, cfg.model.teacher.width) == (8, 5)
    step(cfg)
    with pytest.raises(UserError, match="'mimseg.Nothing': expected a registered teacher"):
        shrink(config(model(dict(type="mimseg.Nothing"))))


def test_what_cannot_be_shrunk():
    cfg = copy.deepcopy(CASES["mae"])
    with pytest.raises(UserError, match="width"):
        shrink(cfg, width=50)
    with pytest.raises(UserError, match="img_size"):
        shrink(cfg, img_size=60)
    cfg.model.backbone.type = "mmpretrain.ResNet"
    with pytest.raises(UserError, match="backbone.type"):
        shrink(cfg)
