"""mimseg masks2coco"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from mimseg.cli.parsing import command_parser
from mimseg.errors import UserError, exit_code
from mimseg.files import report_unwritable


def main(argv: Sequence[str] | None = None) -> int:
    """Turn label maps into COCO instances. Returns the exit code."""
    parser = command_parser(
        "masks2coco",
        "Turn 8-bit label maps into COCO instances by connected components.",
        "masks2coco IMAGES ANNOTATIONS OUT.json --things 8:car 9:pedestrian",
    )
    parser.add_argument("images", metavar="IMAGES", help="folder of images")
    parser.add_argument("annotations", metavar="ANNOTATIONS", help="folder of 8-bit PNG label maps")
    parser.add_argument("out", metavar="OUT.json", type=Path)
    parser.add_argument("--things", type=_thing, nargs="+", required=True, metavar="LABEL:NAME")
    parser.add_argument("--min-area", type=int, default=20, help="smallest component, in pixels")
    args = parser.parse_args(argv)
    return exit_code(lambda: _run(args))


def _run(args: argparse.Namespace) -> None:
    from mimseg.data import coco

    things = dict(args.things)
    if not len(args.things) == len(things) == len(set(things.values())):
        raise UserError("--things", args.things, expected="labels and names that each occur once")
    document = coco.masks_to_coco(args.images, args.annotations, things, max(1, args.min_area))
    with report_unwritable("OUT", args.out):
        coco.write(args.out, document)
    counts = Counter(a["category_id"] for a in document["annotations"])
    objects = ", ".join(f"{counts[c['id']]} {c['name']}" for c in document["categories"])
    print(f"{args.out}: {len(document['images'])} images, {objects}")


def _thing(text: str) -> tuple[int, str]:
    label, _, name = text.partition(":")
    if not label.isdigit() or int(label) > 255 or not name:
        raise argparse.ArgumentTypeError(f"{text!r}: expected LABEL:NAME, such as 8:car")
    return int(label), name
