"""What a training step costs, beside the stock models: python tools/bench/dense.py."""

import sys
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parents[1])  # `dev` is a package of tools/

from dev.cost.main import main  # noqa: E402

if __name__ == "__main__":
    sys.exit(main())
