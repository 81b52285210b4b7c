"""Plans the steps of a benchmark from its config."""

from __future__ import annotations

from collections.abc import Callable, Collection
from functools import partial
from pathlib import Path
from typing import Any

from mimseg.benchmark.config import inits_of, sources
from mimseg.benchmark.grid import (
    cfg_options,
    cfg_values,
    choose,
    point_name,
    point_options,
    read_metric,
)
from mimseg.benchmark.study import Study
from mimseg.benchmark.summary import metric_name
from mimseg.errors import UserError, require_choice
from mimseg.pipeline.places import Places
from mimseg.pipeline.progress import last_loss
from mimseg.pipeline.step import Step, check_steps


class Plan:
    """The steps of a benchmark, in an order in which they could run one by one.

    First `prepare` and pictures of the data, then each of `pretrain`; then for each task and
    initialization the grid with the first seed, the other seeds at the point that validation chose,
    and one reading of the test split per seed; then the pictures and `extra`. The config's `grid`,
    `grid_keys` and `options` are those of each task that has none of its own. In a pretraining,
    `after` names those that must be finished first, such as its teachers, `finetune` has options of
    every task that starts from it, such as its layer scale, `held_out` is a folder of images for
    the pictures that it does not train on, and `panels=False` leaves out its pictures. `inits`
    names 'random', pretrainings, or stages of one (NAME-STAGE); `study` tabulates them.

    Args:
        config: the benchmark's config, see configs/benchmark/.
        places: the folders.
        name: the benchmark's name.

    Raises:
        UserError: a key is missing or wrong, or a config that a step names does not load.
    """

    def __init__(self, config: dict[str, Any], places: Places, name: str) -> None:
        self.config, self.places, self.name = config, places, name
        self.steps: list[Step] = []
        self.seeds = [int(seed) for seed in config.get("seeds") or [0]]
        self.panels: dict[str, Any] | None = config.get("panels", {})
        self.pretrains = {item["name"]: item for item in config.get("pretrain", [])}
        self.sources = sources(list(self.pretrains.values()), places)
        self.tasks = [self._task(task) for task in config.get("tasks", [])]
        inits = dict.fromkeys(init for task in self.tasks for init in self.inits(task))
        self.study = Study(config["study"], list(inits)) if config.get("study") else None
        self.prepared = [self._command(item, "prepare", []) for item in config.get("prepare", [])]
        if self.panels is not None:
            self._previews()
        for item in self.pretrains.values():
            self._pretrain(item)
        for task in self.tasks:
            for init in self.inits(task):
                self._finetune(task, init)
        if self.panels is not None:
            self._pictures()
        for item in config.get("extra", []):
            self._command(item, "extra", self.prepared)
        check_steps(self.steps, places)

    def _task(self, task: dict[str, Any]) -> dict[str, Any]:
        """A task with the `grid`, `grid_keys` and `options` that all tasks share."""
        shared = {key: self.config[key] for key in ("grid", "grid_keys") if key in self.config}
        options = {**self.config.get("options", {}), **task.get("options", {})}
        return {**shared, **task, "options": options}

    def inits(self, task: dict[str, Any]) -> list[str]:
        """The initializations that a task compares."""
        inits = inits_of(task, self.config)
        for init in inits:
            if init not in self.sources:
                expected = f"one of {list(self.sources)}"
                raise UserError("inits", init, expected=expected, fix="name it under pretrain")
        return inits

    def points(self, task: dict[str, Any]) -> list[dict[str, Any]]:
        """The grid of a task; one empty point where it has none."""
        return [dict(point) for point in task.get("grid") or [{}]]

    def grid_runs(self, task: dict[str, Any], init: str) -> list[tuple[dict[str, Any], Path]]:
        """(point, work dir) of each run of the grid."""
        return [
            (point, self.places.work_dir / self._train_name(task, init, self.seeds[0], point))
            for point in self.points(task)
        ]

    def has_choice(self, task: dict[str, Any], init: str, finished: Collection[str]) -> bool:
        """Whether all runs of the grid are among the `finished` steps."""
        return all(folder.name in finished for _, folder in self.grid_runs(task, init))

    def chosen(self, task: dict[str, Any], init: str) -> dict[str, Any]:
        """The grid point that validation chose; its runs must be finished."""
        output = self.places.work_dir / "choices" / f"{task['name']}-{init}" / "choice.json"
        key = task["metrics"][task["select"]]
        return self.points(task)[choose(self.grid_runs(task, init), key, output)]

    def chosen_run(self, task: dict[str, Any], init: str, seed: int) -> str:
        """Name of the step that trained the chosen point with a seed."""
        if seed == self.seeds[0]:
            return self._train_name(task, init, seed, self.chosen(task, init))
        return f"{task['name']}-{init}-seed{seed}"

    @staticmethod
    def test_name(task: dict[str, Any], init: str, seed: int) -> str:
        """Name of the step that reads the test split."""
        return f"{task['name']}-{init}-seed{seed}-test"

    def _train_name(self, task: dict, init: str, seed: int, point: dict) -> str:
        return "-".join(filter(None, [task["name"], init, point_name(point), f"seed{seed}"]))

    def _add(self, step: Step) -> str:
        self.steps.append(step)
        return step.name

    def _command(self, item: dict[str, Any], kind: str, needs: list[str]) -> str:
        name = f"{kind}-{item['name']}"
        folder = str(self.places.work_dir / name)
        needs = [f"{kind}-{other}" for other in item["needs"]] if "needs" in item else needs
        argv = self.places.argv([str(word) for word in item["argv"]], dir=folder)
        outputs = self.places.fill(list(item.get("outputs", [])), dir=folder)
        resume = bool(item.get("resume", False))
        config = item.get("config")
        return self._add(
            Step(name, argv, name, needs, config=config, outputs=outputs, resume=resume)
        )

    def _train(self, name: str, config: str, options: dict[str, Any], **step: Any) -> str:
        argv = ["mimseg", "train", config, "--work-dir", f"{{work_dir}}/{name}"]
        argv += step.pop("flags", [])
        return self._add(
            Step(
                name,
                [*self.places.argv(argv), *cfg_options(self.places.fill(options))],
                config=config,
                options=options,
                outputs=["done.json"],
                resume=True,
                **step,
            )
        )

    def _pretrain(self, item: dict[str, Any]) -> None:
        if "checkpoint" in item:  # somebody else's weights: nothing to run
            return
        self._train(
            f"pretrain-{item['name']}",
            item["config"],
            dict(item.get("options", {})),
            flags=list(item.get("flags", [])),
            kind=f"pretrain-{item['name']}",
            result=_loss,
            needs=[*self._prepared(item), *(f"pretrain-{name}" for name in item.get("after", []))],
            facts={"init": item["name"]},
        )

    def _prepared(self, item: dict[str, Any]) -> list[str]:
        if "needs" in item:
            return [f"prepare-{name}" for name in item["needs"]]
        return list(self.prepared)

    def _finetune(self, task: dict[str, Any], init: str) -> None:
        missing = [key for key in ("name", "config", "metrics", "select") if key not in task]
        if missing:
            raise UserError("tasks", task.get("name"), expected=f"the key {missing[0]!r} in it")
        require_choice("select", task["select"], task["metrics"])
        source = self.sources[init]
        needs = [*self._prepared(task), *source.needs]
        flags = [*task.get("flags", []), *source.flags]
        common = {**task.get("options", {}), **source.options}
        grid = []
        for seed in self.seeds:
            facts = {"task": task.get("task", task["name"]), "init": init, "seed": seed}
            shared = {"flags": list(flags), "kind": task["name"], "needs": list(needs)}
            shared["result"] = partial(_score, task, "done.json")
            options = {**common, "randomness.seed": seed}
            if seed == self.seeds[0]:
                for point in self.points(task):
                    changes = {**options, **point_options(task, point)}
                    name = self._train_name(task, init, seed, point)
                    at_point = {**facts, "point": point}
                    grid.append(
                        self._train(name, task["config"], changes, **shared, facts=at_point)
                    )
                trained = []
            else:

                def late() -> tuple[list[str], list[str]]:
                    return cfg_values(point_options(task, self.chosen(task, init))), []

                name = f"{task['name']}-{init}-seed{seed}"
                self._train(
                    name, task["config"], options, **shared, after=grid, late=late, facts=facts
                )
                trained = [name]
            self._test(task, init, seed, [*grid, *trained], facts)

    def _test(
        self, task: dict[str, Any], init: str, seed: int, after: list[str], facts: dict[str, Any]
    ) -> None:
        name = self.test_name(task, init, seed)
        folder = self.places.work_dir / name

        def late() -> tuple[list[str], list[str]]:
            run = self.chosen_run(task, init, seed)
            point = point_options(task, self.chosen(task, init))
            changes = {**task.get("options", {}), **self.sources[init].options, **point}
            options = self.places.fill(changes)
            argv = [str(self.places.work_dir / run), "--work-dir", str(folder)]
            return [*argv, *cfg_options(options)], [run]

        self._add(
            Step(
                name,
                self.places.argv(["mimseg", "test", task["config"]]),
                kind=f"{task['name']}-test",
                after=after,
                config=task["config"],
                outputs=["test.json"],
                late=late,
                facts=facts,
                result=partial(_score, task, "test.json"),
            )
        )

    def _previews(self) -> None:
        """Pictures of the data before anything is trained: what is hidden, and the labels."""
        for item in self.pretrains.values():
            if self._has_panels(item):
                self._preview(f"preview-pretrain-{item['name']}", "pretrain", item)
                break
        for task in self.tasks[:1]:
            self._preview(f"preview-{task['name']}", task.get("task", task["name"]), task)

    def _preview(self, name: str, kind: str, item: dict[str, Any]) -> None:
        words = ["--config", item["config"], *self._held_out(item)]
        words += cfg_options(self.places.fill(dict(item.get("options", {}))))
        step = {"config": item["config"], "urgent": True, "needs": self._prepared(item)}
        self._panels(name, kind, lambda: (words, []), **step)

    def _pictures(self) -> None:
        for name, item in self.pretrains.items():
            if self._has_panels(item):
                run = f"pretrain-{name}"
                words = ["--run", f"{name}={self.places.work_dir / run}", *self._held_out(item)]
                self._panels(f"panels-{run}", "pretrain", lambda w=words: (w, []), needs=[run])
        for task in self.tasks:
            tests = [self.test_name(task, init, self.seeds[0]) for init in self.inits(task)]
            kind, late = task.get("task", task["name"]), partial(self._panel_runs, task)
            self._panels(f"panels-{task['name']}", kind, late, after=tests)

    @staticmethod
    def _has_panels(item: dict[str, Any]) -> bool:
        return "checkpoint" not in item and item.get("panels", True)

    def _held_out(self, item: dict[str, Any]) -> list[str]:
        return self.places.fill(["--images", item["held_out"]]) if "held_out" in item else []

    def _panel_runs(self, task: dict[str, Any]) -> tuple[list[str], list[str]]:
        words, runs = [], []
        for init in self.inits(task):
            run = self.chosen_run(task, init, self.seeds[0])
            words += ["--run", f"{init}={self.places.work_dir / run}"]
            runs.append(run)
        return words, runs

    def _panels(self, name: str, kind: str, late: Callable, **step: Any) -> None:
        folder = f"{{work_dir}}/{name}"
        argv = ["{python}", "-m", "mimseg.benchmark.panels", kind, "--out", folder]
        default = 6 if kind == "pretrain" else 4
        argv += ["--count", str(self.panels.get("count", default))]
        self._add(
            Step(
                name,
                self.places.fill(argv),
                kind="panels",
                outputs=["panels.json"],
                late=late,
                **step,
            )
        )


def _score(task: dict[str, Any], file: str, folder: Path) -> str:
    """The metrics of a finished training or test, for its line of progress."""
    split = "test" if file == "test.json" else "validation"
    scale = task.get("scale", 1)
    texts = [
        f"{metric_name(metric)} {read_metric(folder / file, key) * scale:.1f}"
        for metric, key in task["metrics"].items()
    ]
    return f"{', '.join(texts)} on the {split} split"


def _loss(folder: Path) -> str:
    """The last loss of a finished pretraining."""
    loss = last_loss(folder)
    return "" if loss is None else f"loss {loss:.3g}"
