"""Run a benchmark from data to report: python tools/benchmark.py configs/benchmark/demo.py."""

import sys
from pathlib import Path

from mimseg.benchmark.main import main

if __name__ == "__main__":
    sys.exit(main(root=Path(__file__).resolve().parents[1]))
