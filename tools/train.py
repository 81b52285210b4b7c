"""The same as `mimseg train`."""

from mimseg.cli.train import main

if __name__ == "__main__":
    raise SystemExit(main())
