"""`mimseg train CONFIG --print-config > mine.py`: a whole config that loads again."""

import pytest
import torch
from mmengine.config import Config

import mimseg
from mimseg.cli import main

MAE = "mae/mae_vit-mini-p8_1xb64-40e_scenes"
IN_STAGES = "dbot/dbot_vit-mini-p8_1xb64-2x20e_scenes"
DETECTION = "scenes/mask-rcnn_vit-mini-p8_1xb8-600i_scenes-64x64"


@pytest.fixture
def printed(tmp_path, monkeypatch, capfd):
    """A maker of the printed config, from an empty folder that stays empty."""
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")

    def run(*argv):
        assert main(["train", *argv, "--print-config"]) == 0
        (tmp_path / "mine.py").write_text(capfd.readouterr().out)
        assert not any((tmp_path / "empty").iterdir())
        return Config.fromfile(tmp_path / "mine.py")

    return run


@pytest.mark.parametrize("name", [MAE, IN_STAGES, DETECTION])
def test_what_is_printed_is_the_config(name, printed):
    assert printed(name).to_dict() == mimseg.config(name).to_dict()


def test_the_arguments_are_in_it(printed):
    options = ["train_cfg.max_epochs=3", "data_root=elsewhere"]
    cfg = printed(IN_STAGES, "--amp", "--cfg-options", *options)
    expected = mimseg.config(IN_STAGES)
    expected.optim_wrapper.type = "mimseg.AmpOptimWrapper"
    expected.train_cfg.max_epochs = 3
    expected.data_root = expected.train_dataloader.dataset.data_root = "elsewhere"
    assert cfg.to_dict() == expected.to_dict()


def test_the_backbone_to_start_from_is_in_it(printed, tmp_path, tiny_vit):
    torch.save({"state_dict": tiny_vit().state_dict()}, tmp_path / "backbone.pth")
    cfg = printed(DETECTION, "--init", str(tmp_path / "backbone.pth"))
    assert cfg.model.backbone.init_cfg.checkpoint == str(tmp_path / "backbone.pth")
