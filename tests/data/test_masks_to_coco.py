import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from faster_coco_eval.core import mask as rle
from PIL import Image

from mimseg.cli.masks2coco import main
from mimseg.data.coco import components, masks_to_coco
from mimseg.errors import UserError

CAMVID = Path(__file__).parents[3] / "shared/data/camvid.tar"


def by_flood_fill(labels, label):
    """Reference: the 8-connected regions, as sets of pixels."""
    left, regions = set(zip(*np.nonzero(labels == label), strict=True)), []
    while left:
        stack, region = [left.pop()], set()
        while stack:
            y, x = stack.pop()
            region.add((y, x))
            near = {(y + i, x + j) for i in (-1, 0, 1) for j in (-1, 0, 1)} & left
            left -= near
            stack += near
        regions.append(region)
    return regions


def write_pair(root, labels, name="a/frame"):
    for folder, content in (("images", np.stack([labels] * 3, -1)), ("maps", labels)):
        path = root / folder / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        assert cv2.imwrite(str(path), content)


def hand_made():
    labels = np.full((20, 30), 11, np.uint8)
    labels[2:8, 2:8] = 8  # with a hole, and
    labels[4:6, 4:6] = 0
    labels[8:11, 8:11] = 8  # touching it at a corner: one object
    labels[14:18, 2:9] = 8  # apart: another
    labels[2:8, 20:28] = 9
    labels[18, 28] = 9  # too small
    return labels


def test_hand_made_map(tmp_path):
    labels = hand_made()
    write_pair(tmp_path, labels)
    things = {9: "pedestrian", 8: "car"}
    document = masks_to_coco(tmp_path / "images", tmp_path / "maps", things, min_area=4)
    assert document["categories"] == [{"id": 1, "name": "pedestrian"}, {"id": 2, "name": "car"}]
    assert document["images"] == [{"id": 1, "file_name": "a/frame.png", "height": 20, "width": 30}]
    found = [(a["category_id"], a["bbox"], a["area"]) for a in document["annotations"]]
    assert found == [
        (1, [20, 2, 8, 6], 48),
        (2, [2, 2, 9, 9], 36 - 4 + 9),
        (2, [2, 14, 7, 4], 28),
    ]
    holed = rle.decode(document["annotations"][1]["segmentation"])
    assert holed[5, 5] == 0 and holed[2, 2] == 1 and holed.sum() == 41
    assert [a["id"] for a in document["annotations"]] == [1, 2, 3]


def test_components_are_those_of_a_flood_fill():
    labels = (np.random.default_rng(0).random((24, 24)) < 0.35).astype(np.uint8)
    found = components(labels, 1)
    expected = by_flood_fill(labels, 1)
    as_sets = [set(zip(*np.nonzero(mask), strict=True)) for mask in found]
    assert sorted(map(sorted, as_sets)) == sorted(map(sorted, expected))
    areas = [len(region) for region in as_sets]
    assert areas == sorted(areas, reverse=True)
    assert len(components(labels, 1, 5)) == sum(area >= 5 for area in areas) < len(found)


def test_bad_input_names_the_file(tmp_path, capsys):
    labels = hand_made()
    with pytest.raises(UserError, match="IMAGES"):
        masks_to_coco(tmp_path / "none", tmp_path, {8: "car"})
    write_pair(tmp_path, labels)
    wide = tmp_path / "maps/a/frame.png"
    cv2.imwrite(str(wide), labels[:, :10])
    with pytest.raises(UserError, match="30x20"):
        masks_to_coco(tmp_path / "images", tmp_path / "maps", {8: "car"})
    wide.unlink()
    arguments = [str(tmp_path / name) for name in ("images", "maps", "out.json")]
    assert main([*arguments, "--things", "8:car"]) == 2
    assert "the label map of frame.png" in capsys.readouterr().err
    assert not (tmp_path / "out.json").exists()


def test_a_photo_is_taken_upright(tmp_path):
    labels = hand_made()
    write_pair(tmp_path, labels)
    path, tags = tmp_path / "images/a/frame.png", Image.Exif()
    tags[0x0112] = 6
    image = Image.open(path)
    image.load()
    image.save(path, exif=tags.tobytes())
    with pytest.raises(UserError, match="20x30, not .20, 30.*EXIF orientation"):
        masks_to_coco(tmp_path / "images", tmp_path / "maps", {8: "car"})
    assert cv2.imwrite(str(tmp_path / "maps/a/frame.png"), np.rot90(labels, -1))
    (entry,) = masks_to_coco(tmp_path / "images", tmp_path / "maps", {8: "car"})["images"]
    assert (entry["width"], entry["height"]) == (20, 30)  # as mmdet reads it


def test_tool_writes_the_file_and_counts(tmp_path, capsys):
    write_pair(tmp_path, hand_made())
    arguments = [str(tmp_path / name) for name in ("images", "maps", "deep/out.json")]
    assert main([*arguments, "--things", "8:car", "9:pedestrian"]) == 0
    assert "1 images, 2 car, 1 pedestrian" in capsys.readouterr().out
    assert len(json.loads((tmp_path / "deep/out.json").read_text())["annotations"]) == 3


@pytest.mark.skipif(not CAMVID.exists(), reason="no ../shared")
def test_real_label_maps(tmp_path):
    import tarfile

    with tarfile.open(CAMVID) as archive:
        wanted = [m for m in archive.getmembers() if "/test/0001TP_0085" in m.name and m.isfile()]
        archive.extractall(tmp_path, wanted, filter="data")
    root = tmp_path / "camvid"
    things = {8: "car", 9: "pedestrian"}
    document = masks_to_coco(root / "images/test", root / "annotations/test", things)
    assert len(document["images"]) == len(wanted) // 2 >= 2
    for image in document["images"]:
        path = root / "annotations/test" / image["file_name"]
        labels = cv2.imread(str(path.with_suffix(".png")), cv2.IMREAD_UNCHANGED)
        ours = [a for a in document["annotations"] if a["image_id"] == image["id"]]
        expected = [r for label in things for r in by_flood_fill(labels, label) if len(r) >= 20]
        assert sorted(a["area"] for a in ours) == sorted(map(len, expected))
