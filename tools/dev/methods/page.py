"""docs/methods.md: the table of methods and what their small runs gave."""

from __future__ import annotations

from pathlib import Path

from dev.methods.curves import svg
from dev.methods.records import LEAST_VARIATION, Record, read_records, verdict
from dev.methods.table import Row, markdown
from mimseg.files import write_text

CURVES = "curves.svg"
_INTRO = """# The methods

`tools/methods.py` writes this page. The table comes from the slots that each config builds, the
numbers from the records in [methods/]({folder}/). [adding_a_method.md](adding_a_method.md) says how
to add a row.

{table}
"""
_RUNS = """
## A small run of each

`python tools/methods.py train --out work_dirs/methods` trains each method for {steps} steps (all
its stages together) with the same images, schedule and optimizer, at width {width} and depth
{depth}, on images of {size} px in patches of {patch}. Networks whose weights the full recipes
download are random here, and learned position embeddings are sine-cosine ones: from random ones,
places are not told apart in so few steps. So these runs show that a method's parts work together
and learn. They do not rank methods: every loss has its own scale.

![Loss curves; dashed: what the best constant prediction costs]({folder}/{curves})
"""
_NOTES = """
- **first, last**: the training loss at the first step and over the last tenth of the steps; of the
  last stage where there are several.
- **held-out**: the loss on images that were not trained on, with masks drawn as in training.
- **mean target**: what predicting the mean target at every position would cost on those images,
  under the same loss. **best constant**: the same for the constant that costs least (L1's median,
  smooth L1's point between median and mean, cosine's mean direction). Both are chosen with the
  held-out targets in hand. For cross-entropy the cost is the entropy of the targets' frequencies,
  for relations the mean divergence from the mean relation, for InfoNCE the logarithm of the number
  of candidates. For a teacher that moves, the targets are those of its last state.
- **variation**: the standard deviation of the predictions over the tokens of an image, as a share
  of the targets'; of probabilities for cross-entropy and relations, of unit vectors for cosine and
  InfoNCE. Of several objectives, the least.
- **learned**: whether the loss fell, the held-out loss is below the best constant, and predictions
  vary by {least:.1%} of the targets' variation or more.
"""


def page(rows: list[Row], records: list[Record], folder: str) -> str:
    """The page as Markdown.

    Args:
        rows: of the table.
        records: of the runs; those of methods that are gone are left out.
        folder: of the records, relative to the page.
    """
    order = [row.method.name for row in rows]
    records = sorted(
        (r for r in records if r["method"] in order), key=lambda r: order.index(r["method"])
    )
    head = _INTRO.format(folder=folder, table=markdown(rows, "../"))
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
    lines = [text, results(records), _NOTES.format(least=LEAST_VARIATION)]
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
    """A row a method."""
    names = ("first", "last", "held-out", "mean target", "best constant", "variation")
    lines = ["| method | " + " | ".join(names) + " | seconds | learned |"]
    lines.append("|---" + "|---:" * (len(names) + 1) + "|---|")
    for record in records:
        last, held = record["stages"][-1], record["held_out"]
        numbers = [last["first"], last["last"], held["loss"], held["mean_target"]]
        numbers += [held["best_constant"], held["variation"]]
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
