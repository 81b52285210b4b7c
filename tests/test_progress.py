"""Lines by time, with an estimate of all that is left."""

import pytest

from mimseg import progress
from mimseg.progress import Progress, clock, progress_line


@pytest.fixture
def now(monkeypatch):
    """The clock's hand: now[0] seconds."""
    hand = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: hand[0])
    return hand


def test_clock():
    assert [clock(s) for s in (0, 59.6, 133, 3733, -5)] == [
        "00:00",
        "01:00",
        "02:13",
        "1:02:13",
        "00:00",
    ]


def test_a_line_every_two_seconds_and_at_the_end(now, capsys):
    bar = Progress(400, "images", "scenes")
    assert bar.left() is None and bar.line() == "scenes: 0/400 images"
    for second, done in ((1, 50), (2, 100), (3, 150), (4, 200), (4.5, 400)):
        now[0] = second
        bar.update(done)
    assert capsys.readouterr().out.splitlines() == [
        "scenes: 100/400 images, 00:06 left",
        "scenes: 200/400 images, 00:04 left",
        "scenes: 400/400 images, 00:00 left",
    ]


def test_the_time_left_is_that_of_all_parts(now, capsys):
    bar = Progress(100, "images", parts=4)
    bar.start(0, "dino")
    now[0] = 10
    bar.update(100)
    bar.start(1, "clip")
    now[0] = 15
    bar.update(50)
    assert capsys.readouterr().out.splitlines() == [
        "[1/4] dino: 100/100 images, 00:30 left",
        "[2/4] clip: 50/100 images, 00:25 left",
    ]


def test_seconds_of_starting_up_are_left_out_of_the_rate(now):
    bar = Progress(10, "steps")
    now[0] = 60
    bar.skip(50)
    bar.update(5)
    assert bar.left() == 10


def test_a_line_says_what_is_known():
    assert progress_line("a finished", 80, 2, 5) == "[2/5] a finished, 01:20 left"
    assert progress_line("a finished", None, 5, 5) == "[5/5] a finished"
    assert progress_line("a", 80) == "a, 01:20 left"
