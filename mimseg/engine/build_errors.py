"""Reports what a config asks for and cannot be built: where it stands, and the near name."""

from __future__ import annotations

import difflib
import re
import traceback
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from mmengine.config import Config
from mmengine.registry import Registry, build_functions

from mimseg.checkpoints.names import shorten
from mimseg.errors import UserError
from mimseg.registry import option_names

# what a constructor refuses a value with; a file that is missing or memory that is short is no typo
_REFUSALS = (ArithmeticError, AssertionError, AttributeError, LookupError, TypeError, ValueError)
_UNEXPECTED = re.compile(r"([\w.]+)\(\) got an unexpected keyword argument '(\w+)'")
_MISSING = re.compile(r"\(\) missing \d+ required [\w-]+ arguments?: '(\w+)'")
_TAKES_OPTIONS = (".__init__", ".set_randomness")  # of functions that get a dict of the config


@contextmanager
def report_build_errors(cfg: Config | Mapping, root: str = "") -> Iterator[None]:
    """Within the block, report what cannot be built from a config as a UserError.

    It names the path of a type that no registry has, of an option that its type does not take or
    lacks, and of a type whose constructor refuses its options. Other errors are let through, those
    of a training above all.

    Args:
        cfg: what types are built from within the block.
        root: where that is in a larger config.
    """
    try:
        yield
    except UserError:
        raise
    except _REFUSALS as error:
        nodes = dict(_walk(cfg.to_dict() if isinstance(cfg, Config) else cfg, root))
        if mistake := _explain(error, nodes):
            raise mistake from error
        raise


def near_name(name: str, names: Iterable[str]) -> str | None:
    """The name that was probably meant."""
    return next(iter(difflib.get_close_matches(name, list(names), 1)), None)


@dataclass(frozen=True)
class _Build:
    """One call of a registry's builder.

    Args:
        node: the config that it was given.
        name: the type in it; None where there is none.
        kind: the class or function of that name; None where no registry has it.
        registry: where it was looked for.
    """

    node: object
    name: object
    kind: object
    registry: Registry

    @property
    def title(self) -> str:
        return self.name if isinstance(self.name, str) else getattr(self.kind, "__name__", "")


def _explain(error: Exception, nodes: dict[str, Mapping]) -> UserError | None:
    """The mistake behind an error; None where it is none of a config."""
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    builds = [build for build in map(_build_in, reversed(frames)) if build]
    text = str(error)
    if isinstance(error, TypeError) and (match := _UNEXPECTED.search(text)):
        if mistake := _unexpected(*match.groups(), builds, frames[-1], nodes):
            return mistake
    if not builds:
        return None
    build = builds[0]
    path, _ = _find(nodes, build.node) or ("", None)
    if build.kind is None:
        return _unknown_type(build, path, nodes)
    if isinstance(error, TypeError) and (match := _MISSING.search(text)):
        if (key := match.group(1)) in option_names(build.kind):
            where = f"{path}.{key}" if path else key
            return UserError(where, None, expected=f"a value, which {build.title} needs")
    last = traceback.extract_tb(error.__traceback__)[-1]
    reason = f"{type(error).__name__}: {' '.join(text.split())[:160]}".removesuffix(": ")
    reason += f", in {Path(last.filename).name} line {last.lineno}"
    expected = f"options that {build.title} takes ({reason})"
    return UserError(path or "type", build.title, expected=expected)


def _build_in(frame: FrameType) -> _Build | None:
    """The call of a builder that a frame is of, if any."""
    if frame.f_globals is not vars(build_functions) or "cfg" not in frame.f_locals:
        return None
    values = frame.f_locals
    name, kind = (
        values.get(f"obj_{part}", values.get(f"scheduler_{part}")) for part in ("type", "cls")
    )
    return _Build(values["cfg"], name, kind, values["registry"])


def _walk(node: object, path: str) -> Iterator[tuple[str, Mapping]]:
    """The dicts of a config, by their dotted paths."""
    if isinstance(node, Mapping):
        yield path, node
    for key, value in node.items() if isinstance(node, Mapping) else enumerate(node):
        if isinstance(value, (Mapping, list, tuple)):
            yield from _walk(value, f"{path}.{key}" if path else str(key))


def _find(
    nodes: dict[str, Mapping], node: object, key: str | None = None
) -> tuple[str, Mapping] | None:
    """The path of what was built, and the config's own dict there.

    Args:
        nodes: the dicts of the config.
        node: what was built, which may be a changed copy.
        key: an option that the config's own dict has to have.
    """
    if not isinstance(node, Mapping):
        return None
    alike = [lambda other: other == node]
    if "type" in node:
        alike.append(lambda other: other.get("type") == node["type"])
    if key is not None:
        alike.append(lambda other: key in node and other[key] == node[key])
        alike.append(lambda other: "type" not in other)
    for is_it in alike:
        for path, other in nodes.items():
            if (key is None or key in other) and is_it(other):
                return path, other
    return None


def _unexpected(
    function: str, key: str, builds: list[_Build], caller: FrameType, nodes: dict[str, Mapping]
) -> UserError | None:
    """The error of an option that a function does not take, where it is the config's.

    Args:
        function: the qualified name of what does not take it.
        key: the option.
        builds: what was being built, the inmost first; one may hand options on to the next.
        caller: the frame that the error came up in.
        nodes: the dicts of the config.
    """
    given = [b for b in builds[:2] if isinstance(b.node, Mapping) and key in b.node]
    if given:
        names = [name for build in reversed(given) for name in option_names(build.kind)]
        return _unknown_option(key, given[0].title, names, _find(nodes, given[0].node, key))
    name = function.removesuffix(".__init__")
    title, place = name, None
    if builds and (around := _find(nodes, builds[0].node)):  # which has it in a dict of its own
        below = {p: node for p, node in nodes.items() if p.startswith(f"{around[0]}.")}
        place = _find(below, {"type": name}, key)
        title = builds[0].title + place[0].removeprefix(around[0]) if place else name
    if not place and function.endswith(_TAKES_OPTIONS):
        having = {path: node for path, node in nodes.items() if key in node}
        place = _find(having, {"type": name}, key)
        if not place and len(having) == 1:  # handed on by a type that keeps it until it is used
            place = next(iter(having.items()))
    kind = _callee(function, caller)
    return _unknown_option(key, title, option_names(kind) if kind else None, place)


def _unknown_option(
    key: str, title: str, names: list[str] | None, place: tuple[str, Mapping] | None
) -> UserError | None:
    """The error of a misspelled option; None where it is not in the config.

    Args:
        key: the option.
        title: what does not take it.
        names: the options that there are; None where they are not known.
        place: the path of the dict that has it, and the dict.
    """
    if place is None:
        return None
    path, node = place
    if near := near_name(key, names or ()):
        fix = f"did you mean {near}?"
    else:
        fix = f"its options are {shorten(names, 12)}" if names else "leave it out"
    return UserError(
        f"{path}.{key}" if path else key,
        node[key],
        expected=f"an option of {node.get('type', title)}",
        fix=fix,
    )


def _unknown_type(build: _Build, path: str, nodes: dict[str, Mapping]) -> UserError:
    """The error of a type that no registry has, or of a dict without one."""
    if build.name is None:
        parent, _, key = path.rpartition(".")
        siblings = [name for name in nodes.get(parent, ()) if name != key]
        near = near_name(key, siblings)
        fix = f"did you mean {parent}.{near}?" if near else f"add {path or 'it'}=dict(type=...)"
        return UserError(path or "type", build.node, expected="a dict with a type", fix=fix)
    return UserError(
        f"{path}.type" if path else "type",
        build.name,
        expected=f"a type that is registered among the {build.registry.name}s",
        fix=_near_type(str(build.name), build.registry),
    )


def _near_type(written: str, registry: Registry) -> str:
    """What to do about a type that a registry does not have."""
    root = registry
    while root.parent is not None:
        root = root.parent
    scope, dot, name = written.rpartition(".")
    names = {
        child: [*table.module_dict, *getattr(table, "index", ())]
        for child, table in root.children.items()
    }
    elsewhere = [s for s in names if s != scope and name in names[s]]
    if elsewhere:
        return f"did you mean {elsewhere[0]}.{name}?"
    here = names.get(scope, ()) if scope else [*registry.module_dict, *root.module_dict]
    near = near_name(name, here)
    return f"did you mean {scope}{dot}{near}?" if near else "check its scope and name"


def _callee(function: str, caller: FrameType) -> object:
    """The function or class whose qualified name is in an error that this frame met."""
    name, _, method = function.rpartition(".")
    values = [*caller.f_locals.values(), *caller.f_globals.values()]
    values += type(caller.f_locals.get("self")).__mro__
    named = [v for v in values if getattr(v, "__qualname__", None) in (name, function)]
    if not named or method == "__init__":
        return next(iter(named), None)
    return vars(named[-1]).get(method, named[-1])  # the oldest parent's, which takes no more
