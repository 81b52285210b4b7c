"""The same as `mimseg benchmark`."""

from mimseg.cli.benchmark import main

if __name__ == "__main__":
    raise SystemExit(main())
