import multiprocessing
import os
import select
import signal

import pytest

from moored.errors import InputError
from moored.huggingface.data import workers
from moored.huggingface.data.workers import in_order, worker_count


def _square(number):
    return number * number


def _refuse_three(number):
    if number == 3:
        raise InputError("row 3 is wrong")
    return number


@pytest.mark.parametrize("processes", [1, 2])
def test_results_come_in_the_order_of_the_items(processes):
    assert list(in_order(_square, range(50), processes)) == [number * number for number in range(50)]


@pytest.mark.parametrize("processes", [1, 2])
def test_the_first_error_ends_the_work(processes):
    results = in_order(_refuse_three, range(50), processes)
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(InputError, match=r"^row 3 is wrong$"):
        next(results)


@pytest.mark.parametrize("processes", [1, 2])
def test_few_items_are_taken_before_they_are_needed(processes):
    taken = []
    results = in_order(_square, (taken.append(number) or number for number in range(50)), processes)
    next(results)
    assert len(taken) <= 2 * processes + 1
    results.close()


def test_workers_are_other_processes_that_leave_ctrl_c_to_this_one():
    def where(_):
        return os.getpid(), signal.getsignal(signal.SIGINT)

    assert {handler for pid, handler in in_order(where, range(4), 2) if pid != os.getpid()} == {signal.SIG_IGN}


def test_where_processes_begin_anew_only_this_one_works(monkeypatch):
    assert worker_count() == min(len(os.sched_getaffinity(0)), 16)
    monkeypatch.setattr(workers.sys, "platform", "darwin")
    assert worker_count() == 1


def _work_until_killed(pipe):
    def wait(_):
        os.write(pipe, b"!")
        signal.pause()

    list(in_order(wait, range(2), 2))


def test_workers_end_with_the_process_that_is_killed():
    reading, writing = os.pipe()
    process = multiprocessing.get_context("fork").Process(target=_work_until_killed, args=(writing,))
    process.start()
    os.close(writing)
    for _ in range(2):
        assert os.read(reading, 1) == b"!"
    process.kill()
    process.join()
    # The pipe ends once nobody can write into it any more.
    assert select.select([reading], [], [], 60)[0] and os.read(reading, 1) == b""
    os.close(reading)
