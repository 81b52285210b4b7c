"""Numbers, records and the page."""

import json
import re
import statistics
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from mmengine.config import Config
from PIL import Image

from dev import records
from mimseg.benchmark import dense_panels, panels, pictures, results
from mimseg.benchmark.charts import Line, dot_chart, line_chart
from mimseg.benchmark.plan import Plan
from mimseg.benchmark.pretrain_panels import compose, note
from mimseg.benchmark.report import write_partial
from mimseg.benchmark.results import findings, headline, summarise
from mimseg.benchmark.summary import Comparison, Summary
from mimseg.cli.scenes import main as make_scenes
from mimseg.errors import UserError
from mimseg.files import write_json
from mimseg.pipeline.places import Places
from mimseg.pipeline.scalars import read_curve, smooth
from mimseg.recipes.configs import CONFIGS

TASKS = [{"name": "semseg", "select": "mIoU"}]


def rows(**values):
    return [
        {"name": "semseg", "task": "semseg", "metric": "mIoU", "init": i, "seed": s, "value": v}
        for i, scores in values.items()
        for s, v in enumerate(scores)
    ]


def test_means_and_spreads_are_those_of_the_seeds():
    random, mae = summarise(rows(random=[40.0, 41.0, 43.0], mae=[44.0, 46.0, 45.0]))
    assert random["mean"] == pytest.approx(124 / 3, abs=1e-3)
    assert random["spread"] == pytest.approx(1.528, abs=1e-3)  # root of (16 + 1 + 25) / 9 / 2
    assert (mae["mean"], mae["spread"], mae["n"]) == (45.0, 1.0, 3)
    assert mae["difference"] == pytest.approx(11 / 3, abs=1e-3) and mae["verdict"] == "higher"


@pytest.mark.parametrize(
    ("other", "verdict", "words"),
    [
        ([44.0, 46.0], "higher", "improves segmentation by 4.5 mIoU"),
        (
            [41.2, 40.4],
            "inside the spread",
            "inside the spread in segmentation (+0.3 mIoU)",
        ),
        ([35.0, 36.0], "lower", "worsens segmentation by 5.0 mIoU"),
    ],
)
def test_the_sentence_says_what_the_numbers_say(other, verdict, words):
    summary = summarise(rows(random=[40.0, 41.0], mae=other))
    assert summary[1]["verdict"] == verdict
    assert words in headline(summary, TASKS)
    (sentence,) = findings(summary, TASKS)
    place = "inside" if verdict == "inside the spread" else "outside"
    assert f"{place} the spread of" in sentence


def test_the_sentence_names_what_it_compares_with_where_random_was_not_run():
    said = headline(summarise(rows(dbot=[40.0, 41.0], mae=[44.0, 46.0])), TASKS)
    assert said == "Compared with dbot, pretraining with mae improves segmentation by 4.5 mIoU."


def test_one_seed_has_no_spread_and_is_said_to():
    summary = summarise(rows(random=[40.0], mae=[45.0]))
    assert summary[1]["verdict"] == "one seed" and summary[0]["spread"] is None
    said = headline(summary, TASKS)
    assert said == "In one seed, pretraining with mae improves segmentation by 5.0 mIoU."
    assert "one seed: no spread" in findings(summary, TASKS)[0]
    equal = headline(summarise(rows(random=[40.0], mae=[40.0])), TASKS)
    assert equal == "In one seed, pretraining with mae leaves segmentation as it is."


def test_the_larger_spread_counts():
    wide, narrow = Summary(40, 3.0, 3), Summary(42, 0.1, 3)
    assert Comparison.of(wide, narrow).verdict == "inside the spread"
    assert Comparison.of(narrow, wide).verdict == "inside the spread"


def test_the_report_of_a_run(repository):
    code, output = repository.run("--records", str(repository.root / "records/bench"))
    assert code == 0, output
    report = json.loads((repository.work_dir / "report.json").read_text())
    runs = [r for r in report["runs"] if (r["task"], r["init"]) == ("detection", "mae")]
    expected = [0.99 * (40 + 0.1 + seed + 5) for seed in (0, 1)]  # the fake's test score
    assert [r["value"] for r in runs] == pytest.approx(expected, abs=1e-3)
    assert {"task", "init", "seed", "metric", "value", "config", "seconds"} <= set(runs[0])
    row = next(r for r in report["summary"] if (r["task"], r["init"]) == ("detection", "mae"))
    assert row["mean"] == pytest.approx(statistics.fmean(expected), abs=1e-3)
    assert row["spread"] == pytest.approx(statistics.stdev(expected), abs=1e-3)
    assert {"python", "packages", "cpu", "cores", "commit", "date"} <= set(report["environment"])
    page = (repository.work_dir / "report.html").read_text()
    text = re.sub(r'src="data:[^"]*"', "", page)
    assert not re.search(r"https?:|//|<script|<link|@import|url\(|\bsrc=|\bhref=", text)
    assert f"{row['mean']:.1f}" in page and "<svg" in page
    assert "| Detection | mask AP | mae | 45.1 ± 0.7 | 2 |" in (
        (repository.work_dir / "report.md").read_text()
    )
    for made in ("report.json", "report.html", "report.md"):
        (repository.work_dir / made).unlink()
    repository.calls()
    repository.run()
    assert (repository.work_dir / "report.html").exists() and repository.calls() == []

    folder = repository.root / "records"
    found = records.read_records(folder)
    assert len(found) == 8
    assert {"command", "commit", "machine", "seconds", "benchmark"} <= set(found[0])
    assert str(repository.root) not in json.dumps(found)


def test_a_page_of_a_running_benchmark_shows_what_is_finished_and_reloads(repository):
    assert repository.run()[0] == 0
    config = Config.fromfile(repository.root / "bench.py").to_dict()
    plan = Plan(config, Places(repository.root, repository.work_dir), "bench")
    every = [step.name for step in plan.steps]
    finished = every[: every.index("semseg-random-seed1-test")]

    def page(finished, running):
        facts = {"date": "2026-01-01", "cpu": "x", "cores": 2}
        write_partial(plan, facts, finished, running, "Now.")
        return (repository.work_dir / "report.html").read_text()

    text = page(finished, ["semseg-random-seed1-test"])
    assert 'http-equiv="refresh"' in text and "is running" in text and "Now." in text
    assert "Pretraining: mae" in text and ">Segmentation<" in text
    assert "40.6" in text and "Detection" not in text  # the first seed's test, 0.99 * 41
    assert 'http-equiv="refresh"' not in page(finished, [])
    text = page(["prepare-data"], ["pretrain-mae"])
    assert "<h2>Results" not in text and "<svg" in text  # the loss so far
    assert "<svg" not in page(["prepare-data"], ["other"])


def test_pictures_of_the_data_come_before_any_training(repository):
    repository.edit("panels = None", "panels = dict(count=3)")
    repository.edit('config="configs/mae.py",', 'config="configs/mae.py", held_out="{work_dir}/x",')
    _, output = repository.run("--dry-run", "--seeds", "0")
    names = re.findall(r"\] (\S+):", output)
    assert names[:4] == ["prepare-data", "preview-pretrain-mae", "preview-semseg", "pretrain-mae"]
    command = next(line for line in output.splitlines() if "panels pretrain" in line)
    assert command.strip().startswith("python -m mimseg.benchmark.panels pretrain")
    assert "--count 3" in command


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    """A few generated images, labeled and not."""
    folder = tmp_path_factory.mktemp("scenes") / "data"
    counts = ["--test", "3", "--train", "2", "--val", "2", "--unlabelled", "4", "--size", "64"]
    assert make_scenes([str(folder), *counts, "--seed", "0", "--workers", "1"]) == 0
    return folder


def test_the_preview_shows_held_out_images_and_what_is_hidden(scenes, tmp_path):
    config = str(CONFIGS / "mae/mae_vit-mini-p8_1xb64-40e_scenes.py")
    words = ["pretrain", "--config", config, "--out", str(tmp_path), "--count", "2"]
    words += ["--images", str(scenes / "images/test")]
    assert panels.main([*words, "--cfg-options", f"data_root={scenes}/unlabelled"]) == 0
    content = json.loads((tmp_path / "panels.json").read_text())
    assert content["columns"] == ["Input", "Masked input"] and len(content["rows"]) == 2
    whole, masked = (np.asarray(Image.open(tmp_path / name), int) for name in content["rows"][0])
    grey = np.abs(masked - (226, 230, 236)).max(-1) < 8
    assert 0.7 < grey.mean() < 0.8 and np.abs(whole - masked)[~grey].mean() < 5


def test_the_preview_of_labels(scenes, tmp_path):
    config = str(CONFIGS / "scenes/upernet_vit-mini-p8_1xb8-600i_scenes-64x64.py")
    words = ["semseg", "--config", config, "--out", str(tmp_path), "--count", "2"]
    assert panels.main([*words, "--cfg-options", f"data_root={scenes}"]) == 0
    content = json.loads((tmp_path / "panels.json").read_text())
    assert content["columns"] == ["Image", "Truth"] and len(content["legend"]) == 10
    assert all((tmp_path / name).is_file() for row in content["rows"] for name in row)


def test_as_many_detections_are_drawn_as_there_are_objects_the_best_first():
    """A short training has low scores: a fixed threshold would leave its pictures empty."""
    import torch
    from mmengine.structures import InstanceData

    boxes = torch.tensor([[0.0, 0.0, 8.0, 8.0], [20.0, 20.0, 28.0, 28.0], [10.0, 10.0, 18.0, 18.0]])
    scores, labels = torch.tensor([0.02, 0.2, 0.1]), torch.tensor([0, 1, 0])
    objects = InstanceData(bboxes=boxes, scores=scores, labels=labels)
    sample = SimpleNamespace(pred_instances=objects)
    info = {"instances": [{"bbox": [0, 0, 1, 1]}] * 2 + [{"ignore_flag": 1}]}
    image, colors = np.full((32, 32, 3), 128, np.uint8), pictures.colors_of(2)
    drawn = dense_panels.KINDS["detection"].prediction(image, sample, info, colors)
    factor = pictures.scale_of(image)
    assert (drawn[24 * factor, 20 * factor] == colors[1]).all()  # left edges of the best two
    assert (drawn[14 * factor, 10 * factor] == colors[0]).all()
    assert len(set(drawn[4 * factor, 0].tolist())) == 1  # the third is not there


def test_a_reconstruction_says_whose_images_and_whose_statistics():
    text = note(["Input", "Masked input", "Reconstruction"], Path("x"), True)
    assert "Held-out images" in text and "true mean and variance" in text
    text = note(["Input", "Masked input", "Target", "Prediction"], None, True)
    assert "from the training set" in text and "variance" not in text


def write_rows(folder, name, values):
    for init, found in values.items():
        for seed, value in enumerate(found):
            row = {"name": name, "task": "semseg", "init": init, "seed": seed}
            row |= {"metric": "mIoU", "value": value, "config": "c.py", "command": "python x"}
            results.write_record(
                folder / "demo", "demo", row | {"commit": "a" * 40 + "-dirty", "seconds": 60}
            )


def test_two_tasks_of_one_kind_have_rows_of_their_own(tmp_path):
    write_rows(tmp_path, "upernet", {"random": [40.0, 42.0]})
    write_rows(tmp_path, "linear", {"random": [20.0, 22.0]})
    table = records.table(records.read_records(tmp_path))
    assert "| upernet | mIoU | random | 41.0 ± 1.4 | 2 |" in table
    assert "| linear | mIoU | random | 21.0 ± 1.4 | 2 |" in table


def test_the_table_is_made_again_between_its_markers(tmp_path):
    readme = tmp_path / "README.md"
    readme.write_text(f"# Mine\nbefore\n{records.BEGIN}\nstale\n{records.END}\nafter\n")
    write_rows(tmp_path, "semseg", {"random": [40.0, 42.0], "mae": [45.0, 46.0]})
    assert records.main([str(tmp_path)]) == 0
    text = readme.read_text()
    assert text.startswith("# Mine\nbefore\n") and text.endswith("after\n") and "stale" not in text
    assert "| semseg | mIoU | random | 41.0 ± 1.4 | 2 |  | 1.0 | aaaaaaaaaa-dirty |" in text
    assert "| mae | 45.5 ± 0.7 | 2 | +4.5 (outside the spread) |" in text
    records.write_table(tmp_path)
    assert readme.read_text() == text


def test_a_file_that_is_no_record_is_named(tmp_path):
    write_json(tmp_path / "stray.json", {"value": 1})
    with pytest.raises(UserError, match="stray.json"):
        records.read_records(tmp_path)


def test_a_resumed_log_replaces_what_it_repeats(tmp_path):
    first, second = tmp_path / "1.json", tmp_path / "2.json"
    first.write_text('{"loss": 3, "step": 1}\n{"loss": 2, "step": 2}\n{"loss": 9, "step": 3}\n{"lo')
    second.write_text('{"loss": 1.5, "step": 2}\n{"loss": NaN, "step": 4}\n')
    assert read_curve([first, second], "loss") == [(1, 3.0), (2, 1.5)]
    assert smooth([(float(i), float(i)) for i in range(1000)], 10)[0] == (99.0, 49.5)


def test_charts_escape_names_and_take_odd_values():
    assert line_chart("t", [Line("a", [], "#000")], "x") == ""
    for points in ([(1.0, 2.0)], [(0.0, 5.0), (1.0, 5.0)], [(1.0, 1e-6), (9e5, 1e6)]):
        for log in (False, True):
            svg = line_chart("<b>", [Line("a<", points, "#000")], "x", y_log=log)
            assert "a&lt;" in svg and "nan" not in svg and "<b>" not in svg
    assert dot_chart([("random", [40.0], "#000")], "mIoU").count("<circle") == 1
    assert "nan" not in dot_chart([("random", [0.0, 0.0], "#000")], "mIoU")


def test_masked_patches_are_grey_and_the_others_untouched():
    image = np.arange(4 * 4 * 3, dtype=np.uint8).reshape(4, 4, 3)
    shown = pictures.hide(image, np.array([True, False, False, False]), (2, 2))
    assert (shown[:2, :2] == (226, 230, 236)).all()
    assert (shown[2:] == image[2:]).all() and (shown[:2, 2:] == image[:2, 2:]).all()


def test_features_are_drawn_in_the_targets_colors():
    rng = np.random.default_rng(0)
    target = rng.normal(size=(2, 4, 5))
    shown = {"input": rng.random((2, 3, 8, 8)), "target": target, "prediction": target.copy()}
    columns, drawn = compose(shown, (2, 2))
    assert columns == ["Input", "Target", "Prediction"]
    for _, truth, guess in drawn:
        assert truth.shape == (8, 8, 3) and (truth == guess).all()
        assert len(np.unique(truth.reshape(-1, 3), axis=0)) == 4


def test_relations_are_drawn_as_the_features_of_their_queries():
    rng = np.random.default_rng(0)
    target = rng.normal(size=(2, 4, 2, 3, 5))  # (B, L, pairs, heads, keys)
    shown = {"input": rng.random((2, 3, 8, 8)), "target": target}
    columns, drawn = compose(shown | {"prediction": target.reshape(2, 4, -1)}, (2, 2))
    assert columns == ["Input", "Target", "Prediction"]
    assert all((truth == guess).all() for _, truth, guess in drawn)


def test_overlays_have_the_classes_colors_and_a_readable_size(tmp_path):
    image = np.zeros((50, 60, 3), np.uint8)
    labels = np.full((50, 60), 255)
    labels[:25] = 1
    colors = pictures.colors_of(2)
    shown = pictures.overlay_labels(image, labels, colors)
    assert min(shown.shape[:2]) >= 192
    assert np.abs(shown[0, 0] - 0.7 * colors[1]).max() <= 1
    assert len(set(shown[-1, -1].tolist())) == 1  # not labeled: grey
    boxes = np.array([[10.0, 10.0, 30.0, 30.0]])
    masks = np.zeros((1, 50, 60), bool)
    masks[0, 15:20, 15:20] = True
    drawn = pictures.overlay_objects(image, boxes, np.array([0]), colors, masks, ["car 0.99"])
    factor = pictures.scale_of(image)
    assert (drawn[20 * factor, 10 * factor] == colors[0]).all()
    assert np.abs(drawn[17 * factor, 17 * factor] - 20 - 0.5 * colors[0]).max() <= 1
    name = pictures.save(tmp_path / "a.jpg", drawn)
    assert Image.open(tmp_path / name).size == drawn.shape[1::-1]
