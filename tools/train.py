"""Pretrain a backbone, or fine-tune it for segmentation or detection."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import mimseg  # noqa: E402, F401
from mimseg.engine.launch import train_main  # noqa: E402

if __name__ == "__main__":
    sys.exit(train_main())
