"""tools/convert.py as a user meets it: work dirs, files in the way, wrong files."""

import pytest
import torch

from mimseg.checkpoints import convert as converter
from mimseg.checkpoints.convert import convert
from mimseg.checkpoints.files import read_checkpoint
from mimseg.checkpoints.loader import load_backbone
from mimseg.cli.convert import main as convert_main
from mimseg.errors import UserError
from mimseg.students.vit import ViT

ARCH = dict(embed_dims=24, num_layers=3, num_heads=4, feedforward_channels=48)


def vit():
    model = ViT(ARCH, img_size=32, patch_size=8)
    model.init_weights()
    return model


def save(model, path):
    torch.save({"state_dict": {f"backbone.{k}": v for k, v in model.state_dict().items()}}, path)
    return path


def test_a_work_dir_of_a_fine_tuning(tmp_path, capsys):
    model, run = vit(), tmp_path / "run"
    run.mkdir()
    state = {f"backbone.{k}": v for k, v in model.state_dict().items()}
    state |= {"decode_head.conv_seg.weight": torch.ones(2), "neck.ln1.weight": torch.ones(2)}
    torch.save({"state_dict": state, "meta": {}}, run / "iter_7.pth")
    (run / "last_checkpoint").write_text("/elsewhere/run/iter_7.pth")
    out = tmp_path / "new/b.pth"
    assert convert_main([str(run), str(out), "--to", "timm"]) == 0
    told = capsys.readouterr().out
    assert "iter_7.pth" in told and "left out: 2 tensors of decode_head, neck" in told
    assert "3 blocks of width 24; mimseg.ViT(patch_size=8, img_size=32)" in told
    written = read_checkpoint(out)
    assert "blocks.2.mlp.fc2.bias" in written and len(written) == len(model.state_dict())

    assert convert_main([str(run), str(out)]) == 2
    assert "OUT" in (told := capsys.readouterr().err) and "--force" in told
    assert "blocks.2.mlp.fc2.bias" in read_checkpoint(out)
    assert convert_main([str(run), str(out), "--force"]) == 0
    assert set(read_checkpoint(out)) == {"meta", "state_dict"}


def test_a_kill_leaves_the_old_file(tmp_path, monkeypatch):
    save(vit(), tmp_path / "a.pth")
    (tmp_path / "b.pth").write_text("old")

    def fail(weights, stream):
        stream.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(converter.torch, "save", fail)
    with pytest.raises(UserError, match="OUT = .*b.pth.*No space left on device"):
        convert(tmp_path / "a.pth", tmp_path / "b.pth", force=True)
    assert (tmp_path / "b.pth").read_text() == "old"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.pth", "b.pth"]


class Payload:
    """Stands for code in a pickle."""


def test_wrong_files(tmp_path, capsys):
    torch.save({"model": vit().state_dict(), "args": Payload()}, tmp_path / "code.pth")
    arguments = [str(tmp_path / "code.pth"), str(tmp_path / "b.pth")]
    assert convert_main(arguments) == 2
    told = capsys.readouterr().err
    assert "Payload" in told and "--trust" in told and not (tmp_path / "b.pth").exists()
    assert convert_main([*arguments, "--trust"]) == 0
    assert convert_main([arguments[1], str(tmp_path / "c.pth"), "--from", "mae"]) == 2
    assert "--from = 'mae'" in capsys.readouterr().err

    torch.save({"conv1.weight": torch.ones(2), "bn1.bias": torch.ones(2)}, tmp_path / "r50.pth")
    for source, out, told in [
        (tmp_path / "r50.pth", "c.pth", "its keys begin with conv1.weight, bn1.bias"),
        (tmp_path / "nowhere.pth", "c.pth", "nothing is there"),
        (tmp_path / "b.pth", "c.bin", "ends in .pth or .safetensors"),
        (tmp_path / "b.pth", "folder.pth", "a folder is there"),
    ]:
        (tmp_path / "folder.pth").mkdir(exist_ok=True)
        with pytest.raises(UserError, match=told):
            convert(source, tmp_path / out)


def test_another_patch_size_keeps_the_tokens_of_enlarged_patches(tmp_path, capsys):
    model = vit().eval()
    source, out = save(model, tmp_path / "a.pth"), tmp_path / "b.pth"
    assert convert_main([str(source), str(out), "--patch-size", "12"]) == 0
    assert "resampled: 3 blocks of width 24; mimseg.ViT(patch_size=12, img_size=48)" in (
        capsys.readouterr().out
    )
    larger = ViT(ARCH, img_size=48, patch_size=12).eval()
    report = load_backbone(larger, out)
    assert not report.resized and not report.missing
    patches = torch.rand(16, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    resize = dict(size=(12, 12), mode="bicubic", antialias=True)
    torch.testing.assert_close(
        larger.patch_embed.projection(torch.nn.functional.interpolate(patches, **resize)),
        model.patch_embed.projection(patches),
    )
    assert convert_main([str(source), str(tmp_path / "c.pth"), "--patch-size", "0"]) == 2
    assert "--patch-size" in capsys.readouterr().err and not (tmp_path / "c.pth").exists()
