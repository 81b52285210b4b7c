"""Write a classifier, a backbone or a segmentor to an ONNX file."""

import sys

from mimseg.export.main import export_main

if __name__ == "__main__":
    sys.exit(export_main())
