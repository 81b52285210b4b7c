"""Measure a checkpoint on the test split."""

import sys

from mimseg.engine.launch import test_main

if __name__ == "__main__":
    sys.exit(test_main())
