"""The same as `mimseg export`."""

from mimseg.cli.export import main

if __name__ == "__main__":
    raise SystemExit(main())
