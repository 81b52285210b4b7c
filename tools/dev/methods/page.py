"""Writes docs/methods.md: the tables of methods and the results of their small runs."""

from __future__ import annotations

from pathlib import Path

from dev.methods.curves import svg
from dev.methods.records import Record, read_records, verdict
from dev.methods.table import Row, markdown
from mimseg.files import write_text

CURVES = "curves.svg"
_INTRO = """# Methods

A method is a config that fills five slots and a mask.

![An image goes to the teacher, whose output is normalized, and through a mask to the student and
its head; the loss compares both.](images/slots.svg)

    loss( normalization( teacher(image) ), head( student(masked image) ) )

The **teacher** turns the image into tokens, one per patch. The **normalization** makes the targets
from them. The **mask** hides patches of the image that the **student** sees. The **head** predicts
the targets from the student's tokens, and the **loss** compares both at the chosen positions. The
student is the backbone that you keep; all other parts serve the training only.

`mimseg methods` lists the methods with their configs. `mimseg pretrain IMAGES --method NAME` trains
one on your images ([pretrain.md](pretrain.md)). [adding_a_method.md](adding_a_method.md) shows how
to add one.

## What the student learns from

{targets}

## How it learns

{students}

"Masked patches dropped": the student runs on the visible patches only, which is faster. "Mask
token": a learned token takes the place of each masked patch. "Whole image": nothing is masked.

Both tables are generated: `python tools/methods.py --write` builds the slots of each method's main
config and describes them.
"""
_RUNS = """
## A small run of each method

`python tools/methods.py train --out work_dirs/methods` trains each method for {steps} steps, all
its stages together. Images, schedule and optimizer are the same for all: width {width}, depth
{depth}, images of {size} px in patches of {patch}. Two things differ from the full recipes:

- networks whose weights the full recipe downloads have random weights here;
- position embeddings are sine-cosine ones, because learned embeddings do not converge in {steps}
  steps.

So these runs show that the parts of a method work together and learn. They do not rank the methods,
because each loss has its own scale.

![Loss curves; the dashed line is the cost of predicting the mean target]({folder}/{curves})
"""
_NOTES = """
- **first, last**: the training loss at the first step, and its mean over the last tenth of the
  steps. For a method with stages, both are of the last stage.
- **held-out**: the loss on images that were not trained on. Masks are drawn as in training.
- **mean target**: the loss of a prediction that ignores the image: the mean target of the held-out
  images, at every position. For cross-entropy it is the entropy of the targets' frequencies. For
  relations it is the mean divergence from the mean relation. For InfoNCE it is the logarithm of the
  number of candidates. For a teacher that moves, the targets are those of its last state.
- **learned**: "yes" if the training loss fell and the held-out loss is below the mean target.

The records are in `docs/methods/`, one JSON file per method.
"""
# the columns of the page's two tables
TARGETS = ("teacher", "normalization", "loss")
STUDENTS = ("student", "mask", "head", "positions")


def page(rows: list[Row], records: list[Record], folder: str) -> str:
    """The page as Markdown.

    Args:
        rows: of the tables.
        records: of the runs; those of methods that no longer exist are left out.
        folder: of the records, relative to the page.
    """
    order = [row.method.name for row in rows]
    records = sorted(
        (r for r in records if r["method"] in order), key=lambda r: order.index(r["method"])
    )
    head = _INTRO.format(
        targets=markdown(rows, "../", TARGETS),
        students=markdown(rows, "../", STUDENTS, paper=False),
    )
    if not records:
        return head
    size = records[0]["size"]
    text = head + _RUNS.format(
        folder=folder,
        curves=CURVES,
        steps=_all(records, "steps"),
        width=size["width"],
        depth=size["depth"],
        size=size["img_size"],
        patch=size["patch_size"],
    )
    lines = [text, results(records), _NOTES]
    missing = [name for name in order if name not in {r["method"] for r in records}]
    if missing:
        lines.append(f"Not run yet: {', '.join(missing)}.\n")
    seconds = sum(r["seconds"] for r in records)
    commits = ", ".join(sorted({str(r["commit"])[:10] for r in records}))
    cpus = ", ".join(
        sorted({f"{r['machine']['cpu']}, {r['machine']['cores']} cores" for r in records})
    )
    lines.append(
        f"{len(records)} runs, {seconds / 60:.0f} minutes of steps in all; seed "
        f"{_all(records, 'seed')}; commit {commits}; {cpus}.\n"
    )
    return "\n".join(lines)


def results(records: list[Record]) -> str:
    """The results as a table with one row per method."""
    names = ("first", "last", "held-out", "mean target")
    lines = ["| method | " + " | ".join(names) + " | seconds | learned |"]
    lines.append("|---" + "|---:" * (len(names) + 1) + "|---|")
    for record in records:
        last, held = record["stages"][-1], record["held_out"]
        numbers = [last["first"], last["last"], held["loss"], held["mean_target"]]
        words = [_number(value) for value in numbers]
        cells = [record["method"], *words, f"{record['seconds']:.0f}", verdict(record)]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def write_page(path: Path, folder: Path, rows: list[Row]) -> None:
    """Write the page, and the curves beside the records where there are any."""
    records = read_records(folder) if folder.is_dir() else []
    names = [row.method.name for row in rows]
    if records:
        write_text(folder / CURVES, svg([r for r in records if r["method"] in names]))
    write_text(path, page(rows, records, folder.relative_to(path.parent).as_posix()))


def _all(records: list[Record], key: str) -> str:
    return ", ".join(sorted({str(record[key]) for record in records}))


def _number(value: float | None) -> str:
    return "diverged" if value is None else f"{value:.3g}"
