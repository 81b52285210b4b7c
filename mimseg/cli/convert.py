"""mimseg convert"""

from __future__ import annotations

from collections.abc import Sequence

from mimseg.cli.parsing import command_parser
from mimseg.errors import exit_code

FAMILIES = (
    *("dbot", "dbot-beit", "tinymim", "mae", "beit", "beit2"),
    *("timm", "hf", "mmpretrain", "mimseg"),
)
LIBRARIES = ("mimseg", "timm", "hf", "mmpretrain")


def main(argv: Sequence[str] | None = None) -> int:
    """Write a backbone by another library's names. Returns the exit code."""
    parser = command_parser(
        "convert",
        "Take the backbone out of IN and write it to OUT by the names of a library.",
        "convert work_dirs/mae backbone.safetensors --to timm",
    )
    parser.add_argument("source", metavar="IN", help="a checkpoint, or the work dir of a training")
    parser.add_argument("out", metavar="OUT", help="a .pth or .safetensors file")
    family = dict(dest="family", default="auto", choices=("auto", *FAMILIES), help="IN's names")
    parser.add_argument("--from", **family)
    parser.add_argument("--to", default="mimseg", choices=LIBRARIES, help="OUT's names")
    parser.add_argument(
        "--model",
        default="auto",
        choices=("auto", "vit", "beit"),
        help="the library's class: its plain ViT, its BEiT, or the first that holds the weights",
    )
    parser.add_argument(
        "--patch-size", type=int, metavar="N", help="resample the patch embedding to N pixels"
    )
    parser.add_argument("--trust", action="store_true", help="run code in IN: know its origin")
    parser.add_argument("--force", action="store_true", help="replace OUT")
    options = vars(parser.parse_args(argv))

    def run() -> None:
        from mimseg.checkpoints.convert import convert

        print("\n".join(convert(**options)))

    return exit_code(run)
