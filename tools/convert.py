"""Take the backbone out of a checkpoint and write it by another library's names."""

import sys

from mimseg.checkpoints.convert import convert_main

if __name__ == "__main__":
    sys.exit(convert_main())
