"""Pretrain a small ViT on a folder of images, then take features out of it.

python examples/pretrain.py IMAGES OUT --epochs 40
"""

import argparse
from pathlib import Path

from mmengine.config import Config

import mimseg
from mimseg.engine.prepare import check_config, merge_options
from mimseg.engine.run import train
from mimseg.recipes.configs import find_config


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("images", help="folder of images; no labels are needed")
    parser.add_argument("out", help="work dir")
    parser.add_argument("--epochs", type=int, default=40, help="2 or more")
    parser.add_argument("--batch", type=int, default=64, help="no more than there are images")
    args = parser.parse_args(argv)

    cfg = Config.fromfile(find_config("mae/mae_vit-mini-p8_1xb64-40e_scenes"))
    options = {"data_root": args.images, "train_dataloader.batch_size": args.batch}
    options |= {"train_cfg.max_epochs": args.epochs, "param_scheduler.1.end": args.epochs}
    merge_options(cfg, options)
    cfg.work_dir = args.out
    check_config(cfg, ("train",))
    train(cfg)
    backbone = mimseg.load(args.out)
    image = min(path for path in Path(args.images).rglob("*.*") if path.is_file())
    print(f"features of {image}: {tuple(backbone.features(image)['patches'].shape)}")


if __name__ == "__main__":
    main()
