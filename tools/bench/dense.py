"""What a training step costs, beside the stock models: python tools/bench/dense.py."""

import sys
from pathlib import Path

from mimseg.bench.main import main

if __name__ == "__main__":
    sys.exit(main(root=Path(__file__).resolve().parents[2]))
