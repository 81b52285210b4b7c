"""The same as `mimseg scenes`."""

from mimseg.cli.scenes import main

if __name__ == "__main__":
    raise SystemExit(main())
