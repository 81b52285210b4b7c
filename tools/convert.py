"""The same as `mimseg convert`."""

from mimseg.cli.convert import main

if __name__ == "__main__":
    raise SystemExit(main())
