"""The house: imports run down its floors, without a circle."""

import ast
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import mimseg

PACKAGE = Path(mimseg.__file__).parent

# From the ground up. A room is a module or a folder under mimseg/; the longest name that fits a
# module is its room, so one file of a folder may stand on another floor. A module imports from its
# own floor and those below, wherever in the file the import stands.
FLOORS = (
    ("errors", "files", "outputs", "progress", "randomness", "registry"),
    ("compat", "data", "layers", "pipeline", "recipes.configs", "recipes.readers"),
    ("data.checks",),
    (
        "checkpoints",
        "compat.guarded_reader",
        "dense",
        "heads",
        "losses",
        "masking",
        "normalizations",
        "students",
        "teachers",
    ),
    ("algorithms", "checkpoints.backbone", "recipes"),
    ("engine",),
    ("analysis", "benchmark", "export", "rehearse"),
    ("__main__", "cli"),
)
LEVEL = {room: level for level, rooms in enumerate(FLOORS) for room in rooms}
SLOTS = {"heads", "losses", "masking", "normalizations", "students", "teachers"}


def modules() -> dict[str, Path]:
    """Name without "mimseg." -> file; the package's own face, which leads anywhere, is left out."""
    names = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        names[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    del names[""]
    return names


MODULES = modules()


def statements(node: ast.AST) -> Iterator[ast.AST]:
    """All nodes below but those for type checkers alone."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and ast.unparse(child.test).endswith("TYPE_CHECKING"):
            continue
        yield child
        yield from statements(child)


def imports(tree: ast.AST, name: str = "") -> set[str]:
    """The modules of ours that a file imports, without "mimseg."."""
    names = set()
    for node in statements(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{name}: a relative import"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    ours = {name.removeprefix("mimseg.") for name in names if name.startswith("mimseg.")}
    targets = {name if name in MODULES else name.rpartition(".")[0] for name in ours}
    return {name for name in targets if name in MODULES}


GRAPH = {name: imports(ast.parse(path.read_text()), name) for name, path in MODULES.items()}


def room(module: str) -> str:
    rooms = [room for room in LEVEL if f"{module}.".startswith(f"{room}.")]
    assert rooms, f"mimseg/{module} is in no room of this house: put it on a floor"
    return max(rooms, key=len)


def arrows() -> set[tuple[str, str]]:
    """(from, to) of imports between modules of different rooms."""
    pairs = {(name, target) for name, targets in GRAPH.items() for target in targets}
    return {(name, target) for name, target in pairs if room(name) != room(target)}


def test_the_parser_sees_imports_wherever_they_stand():
    code = (
        "from typing import TYPE_CHECKING\nimport mimseg.errors\n"
        "if TYPE_CHECKING:\n    from mimseg.cli import train\n"
        "def f():\n    from mimseg import registry\n    from mimseg.layers.block import Block\n"
    )
    assert imports(ast.parse(code)) == {"errors", "registry", "layers.block"}


def test_no_circle_between_modules():
    try:
        TopologicalSorter(GRAPH).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


def test_no_circle_between_rooms():
    rooms = {name: set() for name in LEVEL}
    for name, target in arrows():
        rooms[room(name)].add(room(target))
    try:
        TopologicalSorter(rooms).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


def test_no_arrow_runs_up():
    up = [f"{a} -> {b}" for a, b in sorted(arrows()) if LEVEL[room(a)] < LEVEL[room(b)]]
    assert not up, "\n".join(up)


def test_slots_know_neither_one_another_nor_the_algorithm():
    wrong = [
        f"{name} -> {target}"
        for name, target in sorted(arrows())
        if room(name) in SLOTS and room(target) in SLOTS | {"algorithms", "dense"}
    ]
    assert not wrong, "\n".join(wrong)


def test_the_algorithm_knows_contracts_and_dense_knows_no_teacher():
    for name, target in sorted(arrows()):
        if room(name) == "algorithms" and room(target) in SLOTS:
            assert target.endswith(".base"), f"{name} -> {target}"
        if room(name) == "dense":
            assert room(target) not in SLOTS - {"students"}, f"{name} -> {target}"
