"""Reads the config that a checkpoint or a work dir carries, without running it."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from pathlib import Path


def written_config(checkpoint: Mapping, work_dir: Path | None = None) -> dict:
    """The config that a training wrote into its checkpoint, else into its work dir.

    Args:
        checkpoint: what `read_checkpoint` returned; mmengine puts the config's text under "meta".
        work_dir: the folder, where the checkpoint was found in one.

    Returns:
        Its top-level values; empty where there is none that can be read.
    """
    meta = checkpoint.get("meta")
    meta = meta if isinstance(meta, Mapping) else {}
    text = meta.get("cfg", meta.get("config"))  # mmcv 1 wrote "config"
    if not isinstance(text, str) and work_dir is not None:
        files = sorted(work_dir.glob("*.py"), key=lambda path: path.stat().st_mtime)
        text = files[-1].read_text(encoding="utf-8", errors="replace") if files else None
    return parse_config(text) if isinstance(text, str) else {}


def parse_config(text: str) -> dict:
    """The top-level names of a config's text that are literals or `dict(...)` of literals.

    Nothing is executed. A text that is no Python, or that takes values from other files (`_base_`),
    gives an empty dict: half a config would be worse than none.
    """
    values = {}
    try:
        body = ast.parse(text).body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return {}
    for node in body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            try:
                values[node.targets[0].id] = ast.literal_eval(_Literals().visit(node.value))
            except (TypeError, ValueError, RecursionError, MemoryError):
                continue  # a call, a name, a sum: code
    return {} if "_base_" in values else values


class _Literals(ast.NodeTransformer):
    """Writes `dict(a=1)` as `{"a": 1}`, which `ast.literal_eval` takes."""

    def visit_Call(self, node: ast.Call) -> ast.AST:
        self.generic_visit(node)
        named = all(keyword.arg for keyword in node.keywords)
        if getattr(node.func, "id", None) != "dict" or node.args or not named:
            return node
        keys = [ast.Constant(keyword.arg) for keyword in node.keywords]
        return ast.Dict(keys, [keyword.value for keyword in node.keywords])
