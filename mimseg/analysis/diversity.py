"""Ranks teachers by token diversity on a folder of images."""

from __future__ import annotations

import argparse
import time

import torch

from mimseg.analysis.images import FolderImages
from mimseg.analysis.results import DEFINITION, NAME, Column, DiversityResults, draw_sheet
from mimseg.analysis.teachers import (
    build_student,
    build_teacher,
    load_teacher,
    read_teachers,
)
from mimseg.analysis.token_diversity import QUERIES, measure
from mimseg.errors import UserError
from mimseg.progress import Progress


def run(args: argparse.Namespace) -> None:
    """Measure every teacher, print the ranking, write results and pictures.

    Raises:
        UserError: a mistake in the arguments, or a teacher that does not build or load.
    """
    if args.batch_size < 1:
        raise UserError("--batch-size", args.batch_size, expected="1 or more")
    if args.pictures < 0:
        raise UserError("--pictures", args.pictures, expected="0 or more")
    device = torch.device(args.device or ("cuda" if torch.cuda.is_available() else "cpu"))
    teachers, student_cfg = read_teachers(args.teachers)
    images = FolderImages(args.images, args.size, args.limit)
    count = min(args.pictures, len(images))
    shown = [(2 * i + 1) * len(images) // (2 * count) for i in range(count)]
    settings = dict(
        images=str(args.images.resolve()),
        count=len(images),
        limit=args.limit,
        size=args.size,
        seed=args.seed,
        student=student_cfg,
        pictures=[images.names[i] for i in shown],
        queries=QUERIES,
    )
    results = DiversityResults(args.out, settings, args.force)
    todo = {name: cfg for name, cfg in teachers.items() if not results.has(name, cfg)}
    if finished := [name for name in teachers if name not in todo]:
        names = ", ".join(finished)
        print(f"kept from an earlier run in {args.out}: {names} (--force measures again)")
    if todo:
        _measure_all(todo, student_cfg, images, shown, device, results, args)
    print(f"\nToken diversity: {DEFINITION}\n")
    print(results.table(), flush=True)
    drawn = _draw(results, images, shown)
    print(
        f"\nResults: {args.out / NAME}; pictures: {drawn}, similarity_N.png next to it", flush=True
    )


def _measure_all(
    todo: dict[str, dict],
    student_cfg: dict | None,
    images: FolderImages,
    shown: list[int],
    device: torch.device,
    results: DiversityResults,
    args: argparse.Namespace,
) -> None:
    torch.manual_seed(args.seed)
    student = build_student(student_cfg)
    for name, cfg in todo.items():  # report a mistake in any of them before the first is measured
        build_teacher(name, cfg, student)
    progress = Progress(len(images), "images", parts=len(todo))
    for number, (name, cfg) in enumerate(todo.items()):
        start = time.monotonic()
        torch.manual_seed(args.seed)
        teacher, layer = build_teacher(name, cfg, student)
        load_teacher(name, teacher, student, args.seed)
        batches = images.batches(args.batch_size, args.workers)
        progress.start(number, name)
        measurement = measure(name, teacher, layer, batches, shown, device, progress.update)
        facts = dict(
            layer=layer,
            parameters=sum(p.numel() for p in teacher.parameters()),
            sha256=teacher.fingerprint(),
            seconds=round(time.monotonic() - start, 1),
        )
        results.add(name, cfg, measurement, facts)
        if len(measurement.raw) < len(images):
            print(f"{name}: {len(images) - len(measurement.raw)} images did not open", flush=True)


def _draw(results: DiversityResults, images: FolderImages, shown: list[int]) -> int:
    drawn = 0
    for number, index in enumerate(shown, 1):
        columns = []
        for name in results.ranking():
            if entry := results.maps(name, index):
                maps, diversity = entry
                columns.append(Column(name, diversity, maps))
        pixels = images[index][1]
        if columns and pixels is not None:
            path = results.out / f"similarity_{number}.png"
            image = pixels.permute(1, 2, 0).numpy()
            draw_sheet(path, images.names[index], image, columns)
            drawn += 1
    return drawn
