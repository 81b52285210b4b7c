"""The same as `mimseg analyze`."""

from mimseg.cli.analyze import main

if __name__ == "__main__":
    raise SystemExit(main())
