"""Writes generated scenes as real formats: an image folder, ADE20K's layout and COCO's.

    OUT/images/{training,validation,test}/scene_000000.jpg
    OUT/annotations/{training,validation,test}/scene_000000.png     0 = ignored, classes from 1
    OUT/annotations/instances_{train,val,test}.json                 file names within images/<split>
    OUT/unlabelled/scene_000000.jpg
    OUT/classes.json                                                names and palette
    OUT/scenes.json                                                 the arguments; written last

Every image has a generator of its own, seeded by (seed, split, index): neither the number of
processes nor the other splits' sizes change its bytes.
"""

from __future__ import annotations

import ast
import json
import multiprocessing
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import asdict, fields
from functools import partial
from pathlib import Path

import cv2
import numpy as np

from mimseg.data import coco as coco_format
from mimseg.data.scenes.draw import SceneConfig, draw_scene
from mimseg.data.scenes.parts import CLASSES, PALETTE, STUFF, THINGS
from mimseg.errors import UserError
from mimseg.progress import Progress

# split -> (number in the seed, image folder, name in COCO's file)
SPLITS = {
    "train": (0, "images/training", "train"),
    "val": (1, "images/validation", "val"),
    "test": (2, "images/test", "test"),
    "unlabelled": (3, "unlabelled", None),
}
MARKER = "scenes.json"
VERSION = 1  # raise it when the same arguments draw other pictures
OURS = ("images", "annotations", "unlabelled", "classes.json", MARKER)
JPEG_QUALITY = 90
CHUNK = 32


def _write_file(path: Path, suffix: str, pixels: np.ndarray, options: list[int]) -> None:
    # cv2.imwrite only returns False on a full disk; bytes through Python raise with the reason.
    path.with_suffix(suffix).write_bytes(cv2.imencode(suffix, pixels, options)[1].tobytes())


def _write_chunk(root: Path, config: SceneConfig, seed: int, job: tuple[str, range]) -> list[list]:
    """Draw and write some images of one split; return each image's COCO instances."""
    split, indices = job
    number, folder, coco_name = SPLITS[split]
    annotated = []
    for index in indices:
        scene = draw_scene(config, np.random.default_rng([seed, number, index]))
        path = root / folder / f"scene_{index:06d}"
        image = cv2.cvtColor(scene.image, cv2.COLOR_RGB2BGR)
        _write_file(path, ".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
        if coco_name is None:
            annotated.append([])
            continue
        labels = root / folder.replace("images", "annotations") / path.name
        _write_file(labels, ".png", scene.labels, [cv2.IMWRITE_PNG_COMPRESSION, 6])
        pairs = zip(scene.categories, scene.masks, strict=True)
        annotated.append([coco_format.instance(category, mask) for category, mask in pairs])
    return annotated


def _start_process() -> None:
    cv2.setNumThreads(1)  # the processes are the parallelism


def _results(work, jobs: list, workers: int) -> Iterator[list[list]]:
    """Yield the jobs' results in order, from this process or from a pool."""
    if workers <= 1 or len(jobs) < 2:
        yield from map(work, jobs)
        return
    # never fork: OpenCV's threads, once started, are not there in the copy, which waits for them
    context = multiprocessing.get_context("spawn")
    with context.Pool(min(workers, len(jobs)), initializer=_start_process) as pool:
        yield from pool.imap(work, jobs)


def _draw_all(
    root: Path, counts: dict[str, int], seed: int, config: SceneConfig, workers: int
) -> None:
    jobs = []
    for split, count in counts.items():
        if count:
            folder = SPLITS[split][1]
            (root / folder).mkdir(parents=True)
            if SPLITS[split][2]:
                (root / folder.replace("images", "annotations")).mkdir(parents=True)
        starts = range(0, count, CHUNK)
        jobs += [(split, range(start, min(count, start + CHUNK))) for start in starts]
    annotations: dict[str, list] = {split: [] for split in counts}
    progress = Progress(sum(counts.values()), "images", "scenes")
    results = _results(partial(_write_chunk, root, config, seed), jobs, workers)
    for (split, indices), result in zip(jobs, results, strict=True):
        annotations[split] += result
        progress.update(progress.done + len(indices))
    categories = dict(enumerate(THINGS, 1))
    for split, count in counts.items():
        name = SPLITS[split][2]
        if name and count:
            images = [(f"scene_{i:06d}.jpg", config.size, config.size) for i in range(count)]
            path = root / "annotations" / f"instances_{name}.json"
            coco_format.write(path, coco_format.document(images, annotations[split], categories))


def write_scenes(
    out: str | Path,
    counts: dict[str, int],
    seed: int = 0,
    config: SceneConfig | None = None,
    workers: int = 1,
    force: bool = False,
) -> bool:
    """Write a data set and return True, or return False where the same one already lies there.

    A killed run leaves `OUT.partial`; the next one starts from nothing.

    Args:
        out: folder to make.
        counts: number of images of each of train, val, test and unlabelled.
        seed: all that is random follows from it.
        config: what the scenes are like.
        workers: number of processes; it changes the time only.
        force: replace what an earlier call with other arguments wrote.

    Raises:
        UserError: `out` holds something else, or an argument cannot be.
    """
    out, config = Path(out), config or SceneConfig()
    counts = {split: counts.get(split, 0) for split in SPLITS}
    for split, count in counts.items():
        if count < 0:
            raise UserError(split, count, expected="a number of images of 0 or more")
    if not sum(counts.values()):
        raise UserError(
            "counts", counts, expected="at least one image", fix="give --train, --val, ..."
        )
    _check(config)
    wanted = {"version": VERSION, "seed": seed, "counts": counts, "config": asdict(config)}
    wanted = json.loads(json.dumps(wanted))  # tuples as lists, to compare with what was read back
    if not _is_free(out, wanted, force):
        return False
    scratch = out.with_name(out.name + ".partial")
    try:
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir(parents=True)
    except OSError as error:
        raise UserError(
            "OUT", str(out), expected="a folder that can be written", fix=str(error)
        ) from error
    _draw_all(scratch, counts, seed, config, workers)
    names = {"classes": CLASSES, "stuff": STUFF, "things": tuple(THINGS), "palette": PALETTE}
    (scratch / "classes.json").write_text(json.dumps(names, indent=1))
    (scratch / MARKER).write_text(json.dumps(wanted, indent=1))
    if out.exists() and any(out.iterdir()):  # --force: only what a call like this one wrote goes
        (out / MARKER).unlink(missing_ok=True)
        for name in OURS[:-1]:
            old = out / name
            shutil.rmtree(old) if old.is_dir() else old.unlink(missing_ok=True)
        for name in OURS:  # the marker last: without it the folder counts as unfinished
            if (scratch / name).exists():
                (scratch / name).replace(out / name)
        scratch.rmdir()
    else:
        scratch.replace(out)
    return True


def _is_free(out: Path, wanted: dict, force: bool) -> bool:
    """Return whether to write into `out`: False where `wanted` is there; raise if it is in use."""
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return True
    marker = out / MARKER
    previous = json.loads(marker.read_text()) if marker.is_file() else None
    ours = previous is not None or (out.is_dir() and all(p.name in OURS for p in out.iterdir()))
    if not ours:
        expected = "a new or empty folder, or one of scenes made earlier"
        raise UserError("OUT", str(out), expected=expected, fix="choose another folder")
    if force:
        return previous != wanted
    if previous == wanted:
        return False
    state = "says others" if previous else "is missing"
    expected = f"scenes of these arguments; {MARKER} there {state}"
    raise UserError(
        "OUT", str(out), expected=expected, fix="choose another folder, or replace with --force"
    )


def _check(config: SceneConfig) -> None:
    for field in fields(config):
        value, default = getattr(config, field.name), field.default
        if isinstance(default, tuple):
            good = isinstance(value, tuple | list) and len(value) == 2 and value[0] <= value[1]
            expected = f"a lower and an upper end, such as {default}"
        else:
            good, expected = isinstance(value, int) and value > 0, f"a number such as {default}"
        if not good:
            raise UserError(f"SceneConfig.{field.name}", value, expected=expected)
    if not 16 <= config.size <= 2048:
        raise UserError("--size", config.size, expected="a side of 16 to 2048 pixels")


def scene_config(settings: Sequence[str], **options: object) -> SceneConfig:
    """A SceneConfig of options and NAME=VALUE strings, whose values are Python literals.

    Raises:
        UserError: a string of another form, or the name of no field.
    """
    names = [field.name for field in fields(SceneConfig)]
    for text in settings:
        name, _, value = text.partition("=")
        if name not in names:
            expected = f"NAME=VALUE with NAME one of {', '.join(names)}"
            raise UserError("--set", text, expected=expected)
        try:
            options[name] = ast.literal_eval(value)
        except (SyntaxError, ValueError) as error:
            expected = "a Python literal as the value, such as 96 or (2,5)"
            raise UserError("--set", text, expected=expected) from error
    return SceneConfig(**options)
