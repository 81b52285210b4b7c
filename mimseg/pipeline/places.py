"""Fills the placeholders of a config with folders, and puts them back into commands."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mimseg.errors import UserError
from mimseg.recipes.configs import shipped_config

# sub-commands whose file in tools/ has another name
TOOLS = {"check": "data/check", "scenes": "data/make_scenes", "masks2coco": "data/masks_to_coco"}


@dataclass(frozen=True)
class Places:
    """Where things are: fills `{python}`, `{root}`, `{work_dir}` and `{data_root}` in strings.

    Args:
        root: the folder that commands run in: the repository, or the user's own.
        work_dir: what the benchmark writes.
        data_root: the user's data, or None where the config needs none.
        python: the interpreter that runs the steps.
        checkout: whether `root` is the repository, with the commands in its tools/.
    """

    root: Path
    work_dir: Path
    data_root: Path | None = None
    python: str = field(default=sys.executable)
    checkout: bool = True

    def argv(self, words: list[str], **more: str) -> list[str]:
        """A command with the placeholders filled in; it may start with `mimseg COMMAND`."""
        if words[0] == "mimseg":
            name = words[1]
            tool = [f"tools/{TOOLS.get(name, name)}.py"]
            command = tool if self.checkout else ["-m", "mimseg.cli", name]
            words = ["{python}", *command, *words[2:]]
        return self.fill(words, **more)

    def config(self, name: str) -> str:
        """The file of a config: one below `root`, or a shipped one by its name.

        Raises:
            UserError: there is none.
        """
        path = self.root / name
        return str(path if path.is_file() else shipped_config(name))

    def fill(self, value: Any, **more: str) -> Any:
        """`value` with the placeholders filled in, through lists, tuples and dicts.

        Raises:
            UserError: a string asks for `{data_root}` and none was given.
        """
        if isinstance(value, dict):
            return {key: self.fill(item, **more) for key, item in value.items()}
        if isinstance(value, (list, tuple)):
            return type(value)(self.fill(item, **more) for item in value)
        if not isinstance(value, str):
            return value
        if "{data_root}" in value and self.data_root is None:
            raise UserError(
                "--data-root", None, expected="the folder that holds the data", fix="give it"
            )
        for key, place in {**self._table(), **more}.items():
            value = value.replace(f"{{{key}}}", str(place))
        return value

    def plain(self, text: str, hide_data: bool = True) -> str:
        """The inverse for one argument: placeholders where a folder of this machine stood.

        With `hide_data` False the data folder stays as it is: other data is another run.
        """
        if text == self.python:
            return "{python}"
        names = ["work_dir", "data_root", "root"] if hide_data else ["work_dir", "root"]
        table = self._table()
        for name in names:
            if name in table and str(table[name]) in text:
                text = text.replace(str(table[name]), f"{{{name}}}")
        return text

    def readable(self, argv: list[str]) -> str:
        """A command as a person would type it in the repository."""
        words = [self.plain(word) for word in argv]
        words = [word.replace("{python}", "python").replace("{root}/", "") for word in words]
        return " ".join(f"'{word}'" if " " in word or not word else word for word in words)

    def _table(self) -> dict[str, Any]:
        table = {"python": self.python, "root": self.root, "work_dir": self.work_dir}
        if self.data_root is not None:
            table["data_root"] = self.data_root
        return table
