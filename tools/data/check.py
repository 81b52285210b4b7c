"""The same as `mimseg check`."""

from mimseg.cli.check import main

if __name__ == "__main__":
    raise SystemExit(main())
