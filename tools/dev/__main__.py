"""Run a command that serves the project itself: python tools/dev methods|cost|records ...."""

import sys
from importlib import import_module
from pathlib import Path

COMMANDS = {
    "methods": "dev.methods.main",
    "method-run": "dev.methods.run",
    "cost": "dev.cost.main",
    "records": "dev.records",
    "resume-grid": "dev.resume_grid",
    "faults": "dev.faults.main",
}

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[1])  # `dev` is a package of tools/
    if sys.argv[1:2] == [] or sys.argv[1] not in COMMANDS:
        sys.exit(f"usage: python tools/dev {{{','.join(COMMANDS)}}} ...")
    sys.exit(import_module(COMMANDS[sys.argv[1]]).main(sys.argv[2:]))
