"""Print the table of methods, or train each at small size: python tools/methods.py [train]."""

import sys
from pathlib import Path

from mimseg.methods.main import main

if __name__ == "__main__":
    sys.exit(main(root=Path(__file__).resolve().parents[1]))
