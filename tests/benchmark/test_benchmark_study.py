"""A study's table: its cells and deviations, where it is written, and the configs that ship."""

import json
import math
import statistics
from pathlib import Path

import pytest
from mmengine.config import Config

from dev import records
from mimseg.benchmark.plan import Plan
from mimseg.benchmark.study import Study, StudyTable, study_html, study_markdown, study_tables
from mimseg.errors import UserError
from mimseg.pipeline.places import Places

ROOT = Path(__file__).parents[2]
SHAPE = dict(row_name="teacher", column_name="stage", columns=["0", "1"])
ROWS = {"noise": ["random", "dbot-one"], "mae": ["mae", None], "<b>": ["random", "dbot-two"]}
INITS = ["random", "mae", "dbot-one", "dbot-two"]


def result_rows(study, **values):
    return [
        {"name": "semseg", "task": "semseg", "metric": "mIoU", "init": init, "seed": seed}
        | {"value": value}
        | study.facts(init)
        for init, scores in values.items()
        for seed, value in enumerate(scores)
    ]


def small_table():
    study = Study({**SHAPE, "rows": ROWS}, INITS)
    values = {"random": [20.0, 22.0], "mae": [30.0, 34.0], "dbot-one": [31.0, 31.0]}
    rows = result_rows(study, **values, **{"dbot-two": [29.0, 30.0]})
    (table,) = study_tables([*rows, {"task": "other", "metric": "AP", "value": 1.0}])
    return table


def test_the_deviation_is_the_populations_over_the_means_of_the_rows():
    table = small_table()
    assert table.cell("noise", "0").mean == table.cell("<b>", "0").mean == 21.0
    assert table.cell("mae", "1") is None
    means = [21.0, 32.0, 21.0]
    centre = sum(means) / 3
    by_hand = math.sqrt(sum((mean - centre) ** 2 for mean in means) / 3)
    assert table.deviation("0") == pytest.approx(by_hand)
    assert table.deviation("1") == pytest.approx(statistics.pstdev([31.0, 29.5]))


def test_what_the_seeds_alone_would_make_agrees_with_a_simulation():
    import numpy as np

    rng = np.random.default_rng(0)
    rows, seeds, noise = 4, 3, 0.7
    found, expected = [], []
    for _ in range(2000):
        scores = rng.normal(30, noise, (rows, seeds))  # equal rows: the seeds alone differ
        table = StudyTable("t", "m", "r", "c", [str(i) for i in range(rows)], ["0"])
        table.values = {(str(i), "0"): list(scores[i]) for i in range(rows)}
        found.append(table.deviation("0") ** 2)
        expected.append(table.chance("0") ** 2)
    assert np.mean(expected) == pytest.approx(np.mean(found), rel=0.05)
    assert np.mean(expected) == pytest.approx(noise**2 / seeds * (rows - 1) / rows, rel=0.05)


def test_the_table_as_text():
    table = small_table()
    text = study_markdown([table])
    assert "| teacher | stage 0 | stage 1 |" in text
    assert "| noise | 21.0 ± 1.4 | 31.0 ± 0.0 |" in text and "| mae | 32.0 ± 2.8 |  |" in text
    assert f"| population std | {table.deviation('0'):.2f} | 0.75 |" in text
    assert "5.19 at stage 0 and 0.75 at stage 1" in table.sentence()
    page = study_html([table])
    assert "&lt;b&gt;" in page and "<b>" not in page and "5.19" in page
    assert study_markdown([]) == study_html([]) == ""


def test_one_seed_says_nothing_about_the_seeds_and_one_row_nothing_about_rows():
    study = Study({**SHAPE, "rows": {"noise": ["random", None]}}, INITS)
    (table,) = study_tables(result_rows(study, random=[20.0]))
    assert table.deviation("0") is None and table.chance("0") is None
    assert table.sentence() == "" and "seeds alone" not in study_markdown([table])


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"rows": {"a": ["random"]}}, "one per column"),
        ({"rows": {"a": ["random", "dino"]}}, "dino"),
        ({"names": []}, "names"),
    ],
)
def test_a_mistake_is_told_by_its_key(change, word):
    with pytest.raises(UserError, match=word):
        Study({**SHAPE, "rows": ROWS, **change}, INITS)


def stage_folders(repository):
    """Let the fakes train stages, each with a result of its own."""
    train = repository.root / "tools/train.py"
    text = train.read_text().replace(
        '(5 if init != "random" else 0)', "config['bonuses'].get(init, 0)"
    )
    text += """
for stage in config.get("stages", []):
    (folder / stage["name"]).mkdir(exist_ok=True)
    (folder / stage["name"] / "done.json").write_text("{}")
"""
    train.write_text(text)
    for name in ("mae", "seg", "det"):
        path = repository.root / f"configs/{name}.py"
        path.write_text(path.read_text() + "bonuses = {'pretrain-mae': 7, 'one': 9, 'two': 10}\n")
    path = repository.root / "configs/dbot.py"
    stages = "stages = [dict(name='one'), dict(name='two', teacher='one')]\n"
    path.write_text((repository.root / "configs/mae.py").read_text() + stages)
    pretrain = 'dict(name="dbot", config="configs/dbot.py", after=["mae"])'
    repository.edit('options=dict(data="{work_dir}/data"))]', f"options=dict(a=1)), {pretrain}]")
    repository.edit(
        'inits = ["random", "mae"]',
        'inits = ["random", "mae", "dbot-one", "dbot-two", "dbot"]\n'
        "study = dict(row_name='teacher', column_name='stage', columns=['0', '1', '2'], rows={\n"
        "    'noise': ['random', 'dbot-one', 'dbot-two'], 'mae': ['mae', None, 'dbot']})",
    )


def test_a_run_with_a_study_writes_its_table_everywhere(repository):
    stage_folders(repository)
    repository.edit('select="mask_AP",', 'select="mask_AP", inits=["random"],')
    folder = repository.root / "records"
    code, output = repository.run("--records", str(folder / "bench"))
    assert code == 0, output
    command = repository.step("semseg-dbot-one-lr0.01-seed0")["command"]
    assert "--init {work_dir}/pretrain-dbot/one" in command
    report = json.loads((repository.work_dir / "report.json").read_text())
    table = next(t for t in report["study"] if t["task"] == "semseg")
    means = {(cell["row"], cell["column"]): cell["mean"] for cell in table["cells"]}
    tested = {"0": 41.0 + 0.5, "1": 50.5, "2": 51.5}  # lr 0.01 adds 1, the two seeds 0 and 1
    assert means == pytest.approx(
        {("noise", c): 0.99 * value for c, value in tested.items()}
        | {("mae", "0"): 0.99 * 48.5, ("mae", "2"): 0.99 * 41.5}  # the fake knows no bonus
    )
    assert table["population_std"]["0"] == pytest.approx(0.99 * 3.5, abs=1e-3)
    assert table["population_std"]["1"] is None
    assert report["headline"].startswith("Segmentation: over 2 teachers")
    row = "| mae | 48.0 ± 0.7 |  | 41.1 ± 0.7 |"
    assert row in output and row in (repository.work_dir / "report.md").read_text()
    assert "By teacher and stage" in (repository.work_dir / "report.html").read_text()
    readme = records.write_table(folder).read_text()  # from the records alone
    assert row in readme and "| population std | 3.46 |  | 4.95 |" in readme
    assert readme.count("### bench") == 1


def shipped(name):
    config = Config.fromfile(ROOT / f"configs/benchmark/{name}.py").to_dict()
    return Plan(config, Places(ROOT, Path("/nowhere")), name)


def test_the_teacher_study_has_a_run_for_every_cell():
    plan = shipped("teacher_study")
    by_name = {step.name: step for step in plan.steps}
    assert len(plan.study.columns) == 3 and len(plan.study.config["rows"]) >= 3
    for row, (start, first, second) in plan.study.config["rows"].items():
        assert plan.sources[second].checkpoint == f"{{work_dir}}/pretrain-dBOT-{row}/stage2"
        assert plan.sources[first].checkpoint.endswith("/stage1")
        step = by_name[f"pretrain-dBOT-{row}"]
        teacher = [word for word in step.argv if word.startswith("model.teacher.")]
        if row in plan.pretrains:  # its own network, which stage 0 fine-tunes as well
            assert start == row and f"pretrain-{row}" in step.needs
            assert teacher == [f"model.teacher.init=/nowhere/pretrain-{row}"]
        else:
            assert start == "random" and teacher in ([], ["model.teacher.depth=0"])
    stages = len({cell for row in plan.study.config["rows"].values() for cell in row})
    trained = [step for step in plan.steps if step.kind == "semseg"]
    assert len(trained) == stages * len(plan.seeds)


def test_the_methods_demo_trains_each_method_and_a_chain_of_shrinking_students():
    from mimseg.engine.stages import stage_configs

    plan = shipped("methods_demo")
    assert set(plan.inits(plan.tasks[0])) == {
        "random",
        *("MaskDistill", "dBOT", "Img2Vec", "TinyMIM"),
    }
    config = Config.fromfile(ROOT / plan.pretrains["TinyMIM"]["config"])
    config.work_dir = "/nowhere"
    before, widths = config.model.teacher.backbone, []
    heads = before.arch.num_heads  # of the block that the first student imitates
    for stage in stage_configs(config).values():
        teacher, student = stage.model.teacher.backbone, stage.model.backbone
        assert teacher == before
        assert student.last_block_heads == heads and student.arch.embed_dims % heads == 0
        assert student.arch.embed_dims % student.arch.num_heads == 0
        before, heads = student, student.last_block_heads
        widths.append(student.arch.embed_dims)
    assert widths == sorted(widths, reverse=True) and len(set(widths)) >= 3
    task = Config.fromfile(ROOT / plan.tasks[0]["config"])
    from mimseg.students.archs import ARCHS

    assert dict(before.arch) == ARCHS[task.model.backbone.arch]
