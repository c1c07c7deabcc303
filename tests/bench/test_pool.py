"""Tasks in processes: all are done, whatever becomes of one; messages arrive in order."""

import os
import signal
import subprocess
import sys
import time
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest

from bench.train.pool import CrashedError, Pool


def prepare(started):
    """Leaves a file for each process; gives what a process can be asked to do."""
    Path(started, str(os.getpid())).touch()
    return carry_out


def carry_out(task, tell):
    match task:
        case "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        case "exit":
            os._exit(3)
        case "raise":
            raise ValueError("no such thing")
        case "sleep":
            time.sleep(600)
    for number in range(task):
        tell(number)
    return task, os.getpid()


def refuse():
    raise OSError("no data")


@pytest.fixture
def pool(tmp_path):
    heard = []
    with closing(Pool(2, partial(prepare, tmp_path), lambda *said: heard.append(said))) as pool:
        pool.heard = heard
        yield pool


def test_results_are_those_of_the_tasks_in_whatever_order_one_asks(pool, tmp_path):
    futures = [pool.submit(task) for task in range(5)]
    assert [pool.result(future)[0] for future in reversed(futures)] == [4, 3, 2, 1, 0]
    assert len(list(tmp_path.iterdir())) <= 2


def test_messages_of_a_task_arrive_in_order_and_before_its_result(pool):
    futures = [pool.submit(task) for task in (3, 5)]
    pool.result(futures[0])
    assert [said for task, said in pool.heard if task == 3] == [0, 1, 2]
    pool.result(futures[1])
    assert [said for task, said in pool.heard if task == 5] == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(
    ("task", "reason"), [("kill", "SIGKILL, probably.*memory"), ("exit", "exit status 3")]
)
def test_a_crash_fails_its_own_task_and_no_other(pool, task, reason):
    futures = [pool.submit(one) for one in (1, task, 2, 3)]
    with pytest.raises(CrashedError, match=reason):
        pool.result(futures[1])
    assert [pool.result(futures[index])[0] for index in (0, 2, 3)] == [1, 2, 3]


def test_what_a_task_raises_comes_back_with_its_traceback_and_its_process_goes_on(pool):
    failed, fine = pool.submit("raise"), pool.submit(2)
    with pytest.raises(ValueError, match="no such thing") as raised:
        pool.result(failed)
    assert "in carry_out" in raised.value.__notes__[0]
    assert pool.result(fine)[0] == 2


def test_what_preparing_raises_comes_back_as_well():
    with closing(Pool(1, refuse, print)) as pool, pytest.raises(OSError, match="no data"):
        pool.result(pool.submit(0))


def test_closing_ends_processes_at_once(tmp_path):
    with closing(Pool(2, partial(prepare, tmp_path), print)) as pool:
        pool.submit("sleep")
        pool.result(pool.submit(0))
        (workers,) = [[int(path.name) for path in tmp_path.iterdir()]]
    for worker in workers:
        with pytest.raises(ProcessLookupError):
            os.kill(worker, 0)


def test_processes_end_when_whoever_started_them_is_killed(tmp_path):
    code = (
        "import os, signal, sys; from functools import partial\n"
        "from bench.train.pool import Pool; from tests.bench.test_pool import prepare\n"
        "pool = Pool(1, partial(prepare, sys.argv[1]), print); pool.result(pool.submit(0))\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False)
    (worker,) = (int(path.name) for path in tmp_path.iterdir())
    deadline = time.monotonic() + 60
    while Path(f"/proc/{worker}").exists() and time.monotonic() < deadline:
        if "Z" in Path(f"/proc/{worker}/stat").read_text().split()[2]:
            break  # nobody is left to take note of its end
        time.sleep(0.05)
    else:
        assert not Path(f"/proc/{worker}").exists()


def test_a_pool_without_processes_is_refused():
    with pytest.raises(ValueError, match="jobs must be at least 1, got 0"):
        Pool(0, refuse, print)
