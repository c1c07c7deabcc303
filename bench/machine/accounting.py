"""What the operating system did for this process: pages it gave anew, time it took for that."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable
from typing import NamedTuple


class Account(NamedTuple):
    """Totals of the process, all its threads; NaN where the system does not tell.

    Attributes:
        minor_faults: pages mapped when they were first touched, without reading a disk.
        system_seconds: CPU time spent in the system's kernel.
    """

    minor_faults: float
    system_seconds: float

    def plus(self, begin: Account, end: Account) -> Account:
        """This, and what came to it from `begin` to `end`."""
        return Account(
            self.minor_faults + end.minor_faults - begin.minor_faults,
            self.system_seconds + end.system_seconds - begin.system_seconds,
        )


NOTHING, UNKNOWN = Account(0, 0.0), Account(math.nan, math.nan)


def sum_of(accounts: Iterable[Account]) -> Account:
    """All of them together."""
    return Account(*map(sum, zip(*accounts, strict=True)))


if sys.platform == "win32":

    def account() -> Account:
        """The totals now."""
        return UNKNOWN

else:
    from resource import RUSAGE_SELF, getrusage

    def account() -> Account:
        """The totals now; asking takes about a microsecond."""
        # The process, not the thread: autograd walks the graph in threads of its own.
        usage = getrusage(RUSAGE_SELF)
        return Account(usage.ru_minflt, usage.ru_stime)
