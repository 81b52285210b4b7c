"""From a benchmark's config to its steps."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from mimseg.benchmark.choice import choose, point_name
from mimseg.benchmark.inits import inits_of, sources
from mimseg.benchmark.options import cfg_options, cfg_values, point_options
from mimseg.benchmark.study import Study
from mimseg.errors import UserError, require_choice
from mimseg.pipeline.places import Places
from mimseg.pipeline.step import Step, check_steps


class Plan:
    """The steps of a benchmark, in an order in which they could run one by one.

    First `prepare`, then each of `pretrain`; then for each task and initialisation the grid with
    the first seed, the other seeds at the point that validation chose, and one reading of the test
    split a seed; then the pictures and `extra`. In a pretraining, `after` names those that must be
    finished first, such as its teachers, `finetune` has options of every task that starts from it,
    such as its layer scale, and `panels=False` leaves out pictures of its predictions.
    `inits` names 'random', pretrainings, or stages of one (NAME-STAGE); `study` tabulates them.

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
        self.tasks = config.get("tasks", [])
        known = dict.fromkeys(init for task in self.tasks for init in self.inits(task))
        self.study = Study(config["study"], list(known)) if config.get("study") else None
        self.prepared = [self._command(item, "prepare", []) for item in config.get("prepare", [])]
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

    def inits(self, task: dict[str, Any]) -> list[str]:
        """The initialisations that a task compares."""
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
            options = {**common, "randomness.seed": seed}
            if seed == self.seeds[0]:
                for point in self.points(task):
                    own = {**options, **point_options(task, point)}
                    name = self._train_name(task, init, seed, point)
                    grid.append(
                        self._train(
                            name, task["config"], own, **shared, facts={**facts, "point": point}
                        )
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
            own = self.sources[init].options
            options = self.places.fill({**task.get("options", {}), **own, **point})
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
            )
        )

    def _pictures(self) -> None:
        for name, item in self.pretrains.items():
            if "checkpoint" not in item and item.get("panels", True):
                run = f"pretrain-{name}"
                words = ["--run", f"{name}={self.places.work_dir / run}"]
                self._panels(run, "pretrain", [run], lambda w=words: (w, []))
        for task in self.tasks:
            tests = [self.test_name(task, init, self.seeds[0]) for init in self.inits(task)]
            late = partial(self._panel_runs, task)
            self._panels(task["name"], task.get("task", task["name"]), tests, late)

    def _panel_runs(self, task: dict[str, Any]) -> tuple[list[str], list[str]]:
        words, runs = [], []
        for init in self.inits(task):
            run = self.chosen_run(task, init, self.seeds[0])
            words += ["--run", f"{init}={self.places.work_dir / run}"]
            runs.append(run)
        return words, runs

    def _panels(self, name: str, kind: str, after: list[str], late: Callable) -> None:
        folder = f"{{work_dir}}/panels-{name}"
        argv = ["{python}", "-m", "mimseg.benchmark.panels", kind, "--out", folder]
        default = 6 if kind == "pretrain" else 4
        argv += ["--count", str(self.panels.get("count", default))]
        self._add(
            Step(
                f"panels-{name}",
                self.places.fill(argv),
                kind="panels",
                needs=after if kind == "pretrain" else [],
                after=after,
                outputs=["panels.json"],
                late=late,
            )
        )
