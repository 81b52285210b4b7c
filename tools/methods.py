"""Print the table of methods, or train each at small size: python tools/methods.py [train]."""

import sys

from dev.methods.main import main

if __name__ == "__main__":
    sys.exit(main())
