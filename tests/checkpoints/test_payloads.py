"""No way into a checkpoint file runs what it holds, unless the user names the file.

Each entry point is given a file with a pickle, and where a config's text in a file could be
executed, one with such a text. Both would leave a marker behind.
"""

import ast
import io
import os
import shutil
from itertools import count
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.model import BaseModel, BaseModule
from mmengine.runner import CheckpointLoader, Runner, load_checkpoint
from mmengine.runner import checkpoint as mmengine_checkpoint
from torch import nn

import mimseg
from mimseg.checkpoints import trusted
from mimseg.checkpoints.checksum import sidecar, write_checksum
from mimseg.checkpoints.files import UntrustedCheckpoint, read_checkpoint
from mimseg.cli.analyze import main as analyze_main
from mimseg.cli.convert import main as convert_main
from mimseg.cli.export import main as export_main
from mimseg.cli.scenes import main as make_scenes
from mimseg.cli.train import main as train_main
from mimseg.engine import run
from mimseg.engine.optimizer_handover_hook import OptimizerHandoverHook
from mimseg.engine.prepare import use_init
from mimseg.errors import UserError
from mimseg.recipes.configs import find_config
from mimseg.registry import MODELS

PACKAGE = Path(mimseg.__file__).parent
SOURCES = sorted(PACKAGE.rglob("*.py"))
MAE = "mae/mae_vit-mini-p8_1xb64-40e_scenes"
SEG = "scenes/upernet_vit-mini-p8_1xb8-600i_scenes-64x64"
DET = "scenes/mask-rcnn_vit-mini-p8_1xb8-600i_scenes-64x64"
ARCH = dict(embed_dims=16, num_layers=1, num_heads=2, feedforward_channels=32)
VIT = dict(type="mimseg.ViT", arch=ARCH, img_size=16, patch_size=4)
DALLE = dict(type="mmpretrain.DALL-E", n_hid=8, n_blk_per_group=1, vocab_size=40)
CLIP = dict(embed_dim=8, vision_cfg=dict(image_size=16, patch_size=4, width=64, layers=1))
NUMBERS = count()


class Bomb:
    """Makes a file when it is unpickled."""

    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return open, (str(self.marker), "w")


@pytest.fixture(autouse=True)
def nothing_trusted(monkeypatch):
    monkeypatch.setattr(trusted, "_names", set())
    monkeypatch.delenv("MIMSEG_TRUST", raising=False)


@pytest.fixture
def marker(tmp_path):
    return tmp_path / "marker"


@pytest.fixture
def bomb(tmp_path, marker):
    """A work dir's checkpoint of a ViT, with a pickle in it."""
    folder = tmp_path / "theirs"
    folder.mkdir()
    vit = {f"backbone.{name}": value for name, value in MODELS.build(VIT).state_dict().items()}
    meta = {"iter": 2, "epoch": 1}
    torch.save({"state_dict": vit, "meta": meta, "bomb": Bomb(marker)}, folder / "epoch_1.pth")
    (folder / "last_checkpoint").write_text("epoch_1.pth")
    return folder / "epoch_1.pth"


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    out = tmp_path_factory.mktemp("scenes") / "scenes"
    counts = ["--train", "2", "--val", "1", "--unlabelled", "4"]
    assert make_scenes([str(out), *counts, "--workers", "1", "--size", "64"]) == 0
    return out


class Toy(BaseModel):
    def __init__(self, init_cfg=None):
        super().__init__(init_cfg=init_cfg)
        self.layer = nn.Linear(2, 1)

    def forward(self, inputs, data_samples=None, mode="loss"):
        return {"loss": self.layer(inputs).mean()}


def toy_runner(folder, **options):
    """mmengine's own Runner, as other toolkits' tools build it."""
    loader = dict(dataset=[torch.ones(2)] * 2, batch_size=1, sampler=dict(type="InfiniteSampler"))
    return Runner(
        Toy(),
        work_dir=str(folder),
        train_dataloader=loader | dict(collate_fn=lambda items: dict(inputs=torch.stack(items))),
        train_cfg=dict(by_epoch=False, max_iters=3),
        optim_wrapper=dict(optimizer=dict(type="SGD", lr=0.1)),
        default_hooks=dict(checkpoint=dict(by_epoch=False, interval=2, type="CheckpointHook")),
        experiment_name=f"payload{next(NUMBERS)}",
        log_level="ERROR",
        **options,
    )


def teacher(kind, **options):
    net = MODELS.build(dict(type=f"mimseg.{kind}", **options))
    student = MODELS.build(VIT)
    net.bind(student)
    net.load(student)


def init_cfg(path):
    return dict(type="Pretrained", checkpoint=str(path))


def whole_segmentor(path):
    from mmseg.utils import register_all_modules

    register_all_modules(init_default_scope=False)
    cfg = Config.fromfile(find_config(SEG))
    cfg.model.init_cfg = init_cfg(path)
    MODELS.build(cfg.model | dict(type="mmseg.EncoderDecoder")).init_weights()


def init_model(path):
    from mmseg.apis import init_model

    init_model(Config.fromfile(find_config(SEG)), str(path), device="cpu")


def init_detector(path):
    from mmdet.apis import init_detector

    init_detector(Config.fromfile(find_config(DET)), str(path), device="cpu")


def get_model(path):
    from mmpretrain import get_model

    head = dict(type="LinearClsHead", num_classes=2, in_channels=16)
    backbone = VIT | dict(out_type="cls_token")
    model = dict(type="ImageClassifier", backbone=backbone, head=head)
    get_model(Config(dict(model=model, default_scope="mmpretrain")), pretrained=str(path))


def from_address(path):
    """An address whose file is in torch's cache, as after a download."""
    cache = Path(torch.hub.get_dir()) / "checkpoints"
    cache.mkdir(parents=True, exist_ok=True)
    shutil.copy(path, cache / "model.pth")
    CheckpointLoader.load_checkpoint(f"https://example.org{path}/model.pth")


def from_stream(path):
    with open(path, "rb") as stream:
        mmengine_checkpoint._safe_torch_load(stream, weights_only=False)


def handover(path):
    runner = toy_runner(path.parent / "run")
    OptimizerHandoverHook(str(path.parent)).before_train(runner)


READERS = {
    "read_checkpoint": read_checkpoint,
    "read_checkpoint, mapped": lambda path: read_checkpoint(path, mmap=True),
    "mimseg.load": mimseg.load,
    "mimseg.load of a work dir": lambda path: mimseg.load(path.parent),
    "--init": lambda path: use_init(Config(dict(model=dict(backbone=dict(VIT)))), str(path)),
    "test": lambda path: run.test(Config(dict(work_dir=str(path.parent))), str(path.parent)),
    "a stage's optimizer": handover,
    "ViTTeacher": lambda path: teacher("ViTTeacher", init=str(path), backbone=VIT),
    "ViTTeacher of a stage": lambda p: teacher("ViTTeacher", init=str(p.parent), backbone=VIT),
    "TimmTeacher": lambda path: teacher(
        "TimmTeacher", model="vit_tiny_patch16_224", weights=str(path), input_size=64
    ),
    "OpenCLIPTeacher": lambda path: teacher("OpenCLIPTeacher", model=CLIP, weights=str(path)),
    "TokenizerTeacher": lambda path: teacher(
        "TokenizerTeacher", tokenizer=DALLE, weights=str(path)
    ),
    "init_cfg of our backbone": lambda p: MODELS.build(
        VIT | dict(init_cfg=init_cfg(p))
    ).init_weights(),
    "init_cfg of any module": lambda path: BaseModule(init_cfg(path)).init_weights(),
    "init_cfg with a prefix": lambda path: BaseModule(
        init_cfg(path) | dict(prefix="backbone")
    ).init_weights(),
    "init_cfg of a whole model": whole_segmentor,
    "mmengine's load_checkpoint": lambda path: load_checkpoint(Toy(), str(path)),
    "mmengine's load_checkpoint to a device": lambda p: load_checkpoint(Toy(), str(p), "cpu"),
    "an address": from_address,
    "a stream": from_stream,
    "Runner with load_from": lambda p: toy_runner(p.parent / "run", load_from=str(p)).train(),
    "Runner.resume": lambda p: toy_runner(p.parent / "run", load_from=str(p), resume=True).train(),
    "init_model": init_model,
    "init_detector": init_detector,
    "get_model": get_model,
}


@pytest.mark.parametrize("entry", READERS)
def test_code_is_refused_and_runs_where_the_file_is_named(entry, bomb, marker, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(bomb.parent / "cache"))
    mimseg.trust(bomb.with_name("epoch_2.pth"))  # another file
    with pytest.raises(UntrustedCheckpoint, match="this one also holds the code of") as refusal:
        READERS[entry](bomb)
    assert not marker.exists()
    name = str(refusal.value.value)
    assert name.endswith(("theirs/epoch_1.pth", "/model.pth"))
    assert "trust" in refusal.value.fix
    mimseg.trust(name)
    try:
        READERS[entry](bomb)
    except Exception as error:  # the file need not fit what reads it
        assert not isinstance(error, UntrustedCheckpoint)
    assert marker.exists()


@pytest.mark.parametrize("name", ["{}", "other.pth:{}", "~/x.pth:{}:https://example.org/y.pth"])
def test_the_environment_names_files(name, bomb, marker, monkeypatch):
    copy = bomb.with_name("epoch_3.pth")
    shutil.copy(bomb, copy)
    monkeypatch.setenv("MIMSEG_TRUST", name.format(os.path.relpath(bomb)))
    load_checkpoint(Toy(), str(bomb))
    read_checkpoint(bomb)
    assert marker.exists()
    marker.unlink()
    for read in (lambda: load_checkpoint(Toy(), str(copy)), lambda: read_checkpoint(copy)):
        with pytest.raises(UntrustedCheckpoint, match="MIMSEG_TRUST"):
            read()
    assert not marker.exists()
    assert trusted.is_trusted("https://example.org/y.pth") == ("://" in name)


def test_a_folder_is_not_trusted_as_a_whole(bomb, monkeypatch):
    with pytest.raises(UserError, match="mimseg.trust = .*expected a checkpoint file"):
        mimseg.trust(bomb.parent)
    monkeypatch.setenv("MIMSEG_TRUST", str(bomb.parent))
    with pytest.raises(UserError, match="MIMSEG_TRUST = .*expected a checkpoint file"):
        read_checkpoint(bomb)


def test_a_stream_without_a_name_cannot_be_trusted(bomb, marker):
    with pytest.raises(UntrustedCheckpoint, match="save it to a file"):
        mmengine_checkpoint._safe_torch_load(io.BytesIO(bomb.read_bytes()))
    assert not marker.exists()


def test_an_address_is_trusted_by_itself(bomb, marker, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(bomb.parent / "cache"))
    monkeypatch.setenv("MIMSEG_TRUST", f"https://example.org{bomb}/model.pth")
    from_address(bomb)
    assert marker.exists()


COMMANDS = {
    "train --init": (train_main, lambda p, out, data: [MAE, "--work-dir", out, "--init", p]),
    "train with load_from": (
        train_main,
        lambda path, out, data: [
            *(SEG, "--work-dir", out, "--cfg-options", f"load_from={path}", f"data_root={data}"),
            *("train_dataloader.batch_size=2", "train_dataloader.num_workers=0"),
            "train_dataloader.persistent_workers=False",
        ],
    ),
    "train --resume": (
        train_main,
        lambda path, out, data: [
            *(MAE, "--work-dir", path.parent, "--resume", "--cfg-options"),
            f"data_root={data}/unlabelled",
        ],
    ),
    "convert": (convert_main, lambda path, out, data: [path, out / "a.pth"]),
    "convert of a work dir": (convert_main, lambda p, out, data: [p.parent, out / "a.pth"]),
    "export": (export_main, lambda path, out, data: [SEG, path, out / "a.onnx"]),
    "export of features": (
        export_main,
        lambda path, out, data: [SEG, path.parent, out / "a.onnx", "--what", "features"],
    ),
    "analyze": (
        analyze_main,
        lambda path, out, data: [
            *("token-diversity", "--images", data / "unlabelled", "--out", out, "--teachers"),
            f"x=mimseg.TimmTeacher,model=vit_tiny_patch16_224,weights={path}",
        ],
    ),
}


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_refuse_in_one_line(command, bomb, marker, scenes, tmp_path, capsys):
    main, argv = COMMANDS[command]
    assert main([str(word) for word in argv(bomb, tmp_path / "out", scenes)]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("error: ") and "epoch_1.pth" in error and "this one also holds" in error
    assert not marker.exists()


def put_text(path, marker, *places):
    """Write a config's text, which would make the marker, into a checkpoint."""
    content = torch.load(path, weights_only=False)
    for place, key in places:
        node = content
        for name in place.split("."):
            node = node.setdefault(name, {})
        text = node.get(key, "model = dict(type='Toy')\n")
        node[key] = f"open({str(marker)!r}, 'w')\n{text}"
    torch.save(content, path)
    write_checksum(path)


TEXTS = [("meta", "config"), ("meta", "cfg"), ("message_hub.runtime_info", "cfg")]


def test_resuming_by_mmengines_runner_executes_no_config(tmp_path, marker):
    toy_runner(tmp_path / "run").train()
    path = tmp_path / "run" / "iter_2.pth"
    put_text(path, marker, *TEXTS)
    runner = toy_runner(tmp_path / "next", load_from=str(path), resume=True)
    runner.train()
    assert runner.iter == 3 and not marker.exists()
    mimseg.trust(path)
    toy_runner(tmp_path / "last", load_from=str(path), resume=True).train()
    assert marker.exists()


def test_resuming_by_our_command_executes_no_config(tmp_path, marker, scenes):
    argv = [MAE, "--work-dir", str(tmp_path / "run"), "--cfg-options"]
    argv += [f"data_root={scenes}/unlabelled", "train_dataloader.batch_size=4"]
    argv += ["train_dataloader.num_workers=0", "train_dataloader.persistent_workers=False"]
    assert train_main([*argv, "train_cfg.max_epochs=2"]) == 0
    for name in ("done.json", "epoch_2.pth", "epoch_2.pth.sha256"):  # as of a killed run
        (tmp_path / "run" / name).unlink(missing_ok=True)
    put_text(tmp_path / "run" / "epoch_1.pth", marker, *TEXTS)
    assert train_main([*argv, "train_cfg.max_epochs=2", "--resume"]) == 0
    assert (tmp_path / "run" / "epoch_2.pth").exists() and not marker.exists()


def test_an_inferencer_executes_no_config_of_a_checkpoint(bomb, marker):
    from mmdet.apis import DetInferencer

    path = bomb.with_name("text.pth")
    torch.save({"state_dict": {"w": torch.ones(1)}}, path)
    put_text(path, marker, *TEXTS)
    with pytest.raises(UntrustedCheckpoint, match=r"text.pth.*would be executed.*model=CONFIG"):
        DetInferencer(weights=str(path), device="cpu")
    assert not marker.exists()
    mimseg.trust(path)
    with pytest.raises(Exception, match="Toy"):
        DetInferencer(weights=str(path), device="cpu")
    assert marker.exists()


@pytest.mark.parametrize("entry", ["mimseg.load", "mimseg.load of a work dir"])
def test_our_readers_parse_a_config_at_most(entry, bomb, marker):
    content = {"state_dict": read_checkpoint(bomb, trust=True)["state_dict"]}
    marker.unlink()
    torch.save(content | {"meta": {"iter": 1}}, bomb)
    (bomb.parent / "config.py").write_text(f"open({str(marker)!r}, 'w')\n")  # next to it
    with pytest.raises(UserError, match="num_heads"):  # which the file does not tell
        READERS[entry](bomb)
    put_text(bomb, marker, *TEXTS)
    with pytest.raises(UserError, match="num_heads"):
        READERS[entry](bomb)
    assert not marker.exists()


def test_a_benchmarks_pictures_execute_no_config_of_a_run(tmp_path, marker):
    from mimseg.benchmark.trained import load_run

    (tmp_path / "done.json").write_text('{"checkpoint": "epoch_1.pth"}')
    (tmp_path / "config.py").write_text(f"open({str(marker)!r}, 'w')\nmodel = dict(type='X')\n")
    config, checkpoint = load_run(tmp_path)
    assert config.model.type == "X" and checkpoint == tmp_path / "epoch_1.pth"
    (tmp_path / "config.py").write_text(f"model = open({str(marker)!r}, 'w')\n")
    with pytest.raises(UserError, match="plain values"):
        load_run(tmp_path)
    assert not marker.exists()


def test_mmengine_notices_damage(bomb):
    content = {"state_dict": {"layer.weight": torch.ones(1, 2), "layer.bias": torch.ones(1)}}
    torch.save(content, bomb)
    load_checkpoint(Toy(), str(bomb))
    sidecar(bomb).write_text("0" * 64)
    with pytest.raises(UserError, match="epoch_1.pth.*SHA-256"):
        load_checkpoint(Toy(), str(bomb))


def readers(tree):
    """What a module uses that can run a file's content."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module]
        elif isinstance(node, ast.Call):
            names = [ast.unparse(node.func).rpartition(".")[2]]
            whose = ast.unparse(node.func).partition(".")[0]
            names = names if whose in ("exec", "eval", "torch", "Config", "mmengine") else []
            names += ["pickle" for keyword in node.keywords if keyword.arg == "allow_pickle"]
        else:
            continue
        yield from {"pickle", "joblib", "runpy", "exec", "eval", "load", "fromstring"} & {*names}


def test_the_package_has_no_other_reader():
    """A new place that unpickles or executes a file is to be guarded, and an entry point above."""
    trees = {p.relative_to(PACKAGE).as_posix(): ast.parse(p.read_text()) for p in SOURCES}
    places = {name: sorted({*readers(tree)}) for name, tree in trees.items()}
    assert {name: uses for name, uses in places.items() if uses} == {
        "__main__.py": ["runpy"],  # of a script that the user names
        "checkpoints/files.py": ["load", "pickle"],
        "checkpoints/iteration.py": ["pickle"],
    }
