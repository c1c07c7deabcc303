"""What holds for all tests."""

import pytest


def pytest_sessionfinish(session, exitstatus):
    """Of tests asked for by name, none need be among those that run by themselves, or all may."""
    if exitstatus == pytest.ExitCode.NO_TESTS_COLLECTED and session.config.option.markexpr:
        session.exitstatus = pytest.ExitCode.OK
