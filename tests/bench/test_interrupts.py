"""Who asks a run to end is heard, and what was there before is there again."""

import os
import signal
import sys
from types import TracebackType

import pytest

from bench import conftest, interrupts


@pytest.fixture
def handled(request):
    """Handles a signal in this test as it says, whatever whoever started the tests has chosen."""

    def handled(number, handler):
        before = signal.signal(number, handler)
        request.addfinalizer(lambda: signal.signal(number, before))

    return handled


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_that_asks_to_end_is_what_ctrl_c_is(number, handled):
    handled(number, signal.SIG_DFL)
    with pytest.raises(KeyboardInterrupt, match=number.name), interrupts.like_ctrl_c():
        os.kill(os.getpid(), number)
    assert signal.getsignal(number) is signal.SIG_DFL


def test_nohup_stays_nohup(handled):
    handled(signal.SIGHUP, signal.SIG_IGN)
    with interrupts.like_ctrl_c():
        os.kill(os.getpid(), signal.SIGHUP)


def test_an_interrupt_where_code_has_no_line_is_still_an_interrupt():
    """Such as between a context manager's lines; pytest would end with a traceback of its own."""
    nowhere = TracebackType(None, sys._getframe(), 10**6, -1)
    caught = pytest.ExceptionInfo.from_exception(KeyboardInterrupt().with_traceback(nowhere))
    assert nowhere.tb_lineno is None
    conftest.pytest_keyboard_interrupt(caught)
    assert "KeyboardInterrupt" in str(caught.getrepr(funcargs=True))
