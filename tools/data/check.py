"""Say what there is of a data set, what is missing and where it goes, and which configs read it.

python tools/data/check.py ROOT [--kind imagenet|ade20k|coco|folder|scenes]
"""

from mimseg.data.checks.main import main

if __name__ == "__main__":
    raise SystemExit(main())
