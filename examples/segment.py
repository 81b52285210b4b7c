"""Fine-tune UperNet from a pretrained backbone, then paint an image's classes: OUT/picture.png."""

import argparse

import matplotlib
from mmengine.config import Config
from mmseg.apis import inference_model, init_model
from PIL import Image

from mimseg.checkpoints.files import resolve_checkpoint
from mimseg.engine.prepare import check_config, merge_options, use_init
from mimseg.engine.run import train
from mimseg.recipes.configs import find_config


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", help="what `mimseg scenes DATA --train 150 --val 50` makes")
    parser.add_argument("image", help="what to paint")
    parser.add_argument("--init", required=True, help="checkpoint or work dir of a pretraining")
    parser.add_argument("--out", default="work_dirs/segment", help="work dir")
    parser.add_argument("--iters", type=int, default=600)
    args = parser.parse_args(argv)
    cfg = Config.fromfile(find_config("scenes/upernet_vit-mini-p8_1xb8-600i_scenes-64x64"))
    length = {"train_cfg.max_iters": args.iters, "train_cfg.val_interval": args.iters}
    merge_options(cfg, {"data_root": args.data} | length)
    cfg.param_scheduler = [dict(type="PolyLR", begin=0, end=args.iters, by_epoch=False)]
    cfg.work_dir = args.out
    use_init(cfg, args.init)
    check_config(cfg, ("train", "val"))
    train(cfg)
    model = init_model(cfg, resolve_checkpoint(args.out), device="cpu")
    labels = inference_model(model, args.image).pred_sem_seg.data[0].numpy()
    paint = Image.fromarray(matplotlib.colormaps["tab20"](labels, bytes=True)).convert("RGB")
    Image.blend(Image.open(args.image).convert("RGB"), paint, 0.5).save(f"{args.out}/picture.png")


if __name__ == "__main__":
    main()
