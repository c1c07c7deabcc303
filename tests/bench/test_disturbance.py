"""What others use is what is busy and not our own; a quiet machine is not complained about."""

import subprocess
import sys
import time

import pytest

from bench.machine.disturbance import Usage, Watch, usage


def watch(*readings):
    remaining = [Usage(0, 0, 0, 0, 0), *readings]
    return Watch(lambda: remaining.pop(0))


def test_others_use_what_is_busy_and_not_our_own():
    watched = watch(Usage(100, 50, 10, 0, 0), Usage(110, 58, 12, 0, 0))
    watched.start()
    assert watched.stop() == pytest.approx((8 - 2) / 10)


def test_intervals_add_up_by_their_length():
    readings = [
        Usage(0, 0, 0, 0, 0),
        Usage(10, 1, 0, 0, 0),
        Usage(50, 20, 0, 0, 0),
        Usage(80, 23, 0, 0, 0),
    ]
    watched = watch(*readings)
    for _ in range(2):
        watched.start()
        watched.stop()
    assert watched.others == pytest.approx((1 + 3) / (10 + 30))


def test_a_quiet_machine_is_not_complained_about():
    watched = watch(Usage(0, 0, 0, 0, 0), Usage(100, 51, 50, 0, 0))
    watched.start()
    watched.stop()
    assert watched.advice() == ""


def test_a_busy_or_swapping_machine_is_told_with_what_to_do():
    watched = watch(Usage(0, 0, 0, 0, 0), Usage(100, 80, 50, 0, 3 * 2**20))
    watched.start()
    watched.stop()
    assert "other programs used 30% of the CPU and 3 MiB were swapped" in watched.advice()
    assert "Close other programs" in watched.advice()


def test_a_host_that_takes_time_away_is_named():
    watched = watch(Usage(0, 0, 0, 0, 0), Usage(100, 55, 50, 5, 0))
    watched.start()
    watched.stop()
    assert watched.stolen == pytest.approx(0.05)
    assert "the host gave 5% of the CPU to other virtual machines" in watched.advice()


@pytest.mark.serial
def test_another_process_is_seen_and_our_own_work_is_not():
    """On the real machine: our own spinning is ours, a child's is not."""
    before = usage()
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as child:
        time.sleep(1.0)
        after = usage()
        child.kill()
    busy = after.busy_seconds - before.busy_seconds
    own = after.own_seconds - before.own_seconds
    assert busy - own > 0.3
