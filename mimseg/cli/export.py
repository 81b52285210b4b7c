"""mimseg export"""

from __future__ import annotations

from collections.abc import Sequence

from mimseg.cli.parsing import add_config_options, command_parser, read_options
from mimseg.errors import exit_code

PARTS = ("classifier", "features", "segmentor")
OPSETS = range(18, 24)


def main(argv: Sequence[str] | None = None) -> int:
    """Write a model to ONNX. Returns the exit code."""
    parser = command_parser(
        "export",
        "Write the model of CONFIG with the weights of CHECKPOINT to OUT, an ONNX file.",
        "export ade20k/vit-base_upernet_8xb2-160k_ade20k-512x512 work_dirs/ade20k ade20k.onnx",
    )
    parser.add_argument(
        "config", metavar="CONFIG", help="a config file, or the name of a shipped one"
    )
    parser.add_argument("checkpoint", metavar="CHECKPOINT", help="a checkpoint, or a work dir")
    parser.add_argument("out", metavar="OUT", help="a .onnx file")
    parser.add_argument(
        "--what",
        default="auto",
        choices=("auto", *PARTS),
        help="logits of images, feature maps of the backbone, or logits of every pixel; "
        "auto takes what the config is for",
    )
    parser.add_argument(
        "--size", nargs=2, type=int, metavar=("H", "W"), help="of the images (the config's)"
    )
    parser.add_argument("--dynamic", action="store_true", help="take images of any size")
    parser.add_argument(
        "--normalize", action="store_true", help="take pixels from 0 to 255; mean and std go in"
    )
    parser.add_argument("--opset", type=int, default=OPSETS[0], choices=OPSETS)
    parser.add_argument("--trust", action="store_true", help="run code in CHECKPOINT")
    parser.add_argument("--force", action="store_true", help="replace OUT")
    add_config_options(parser)
    options = vars(parser.parse_args(argv))

    def run() -> None:
        from mimseg.export.export import export

        options["cfg_options"] = read_options(options["cfg_options"])
        print("\n".join(export(**options)))

    return exit_code(run)
