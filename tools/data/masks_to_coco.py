"""The same as `mimseg masks2coco`."""

from mimseg.cli.masks2coco import main

if __name__ == "__main__":
    raise SystemExit(main())
