"""Runs `python -m mimseg.cli COMMAND ...`, where the `mimseg` script is not on the path."""

import sys

from mimseg.cli import main

sys.exit(main())
