"""What is printed while a step runs: parts, rate, time left and outcome, and the work of earlier runs apart from it."""

from __future__ import annotations

import io

from pipeline.run.progress import Progress
from schemas.manifest import Counts


def printed(progress: Progress, stream: io.StringIO) -> str:
    """What a tick prints when it is due."""
    stream.truncate(0)
    progress.every = 0.0
    progress.tick()
    return stream.getvalue()


def test_a_running_step_says_parts_rate_time_left_and_what_was_left_out() -> None:
    stream = io.StringIO()
    progress = Progress("ingest fine", 4, 1000, stream=stream)
    assert "waiting for the first part" in printed(progress, stream)
    progress.add(Counts(250, 240, {}, {"image_missing": 7, "image_truncated": 3}), 250)
    progress.started -= 10.0
    line = printed(progress, stream)
    assert "1/4 parts" in line and "25 samples/s" in line and "0:30 left" in line
    assert "250 in, 240 kept, 10 rejected" in line


def test_parts_of_an_earlier_run_count_as_done_but_not_as_speed() -> None:
    stream = io.StringIO()
    progress = Progress("language", 4, 1000, resumed=3, stream=stream)
    for _ in range(3):
        progress.add(Counts(250, 250), 250, resumed=True)
    assert "waiting for the first part" in printed(progress, stream)
    progress.add(Counts(250, 200, {"wrong_language": 50}), 250)
    progress.started -= 25.0
    assert "10 samples/s  0:00 left" in printed(progress, stream)
    progress.close()
    last = stream.getvalue().splitlines()[-1]
    assert "4/4 parts (3 from an earlier run)  1,000 in, 950 kept, 50 dropped" in last
