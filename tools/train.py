"""Pretrain a backbone, or fine-tune it for segmentation or detection."""

import sys

from mimseg.engine.launch import train_main

if __name__ == "__main__":
    sys.exit(train_main())
