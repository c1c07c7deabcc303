"""Who asks a run to end is heard, and what was there before is there again."""

import os
import signal

import pytest

from bench import interrupts


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
