"""Look at features: python tools/analyze.py token-diversity --teachers CONFIG.py --images DIR."""

import sys

from mimseg.analysis.main import main

if __name__ == "__main__":
    sys.exit(main())
