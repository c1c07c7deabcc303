"""What holds for all tests."""

import os

import pytest

# A headbench that a test starts is no worker of these tests: to one, benchmarks are disabled.
for name in [name for name in os.environ if name.startswith("PYTEST_XDIST_")]:
    del os.environ[name]


def pytest_sessionfinish(session, exitstatus):
    """Of tests asked for by name, none need be among those that run by themselves, or all may."""
    if exitstatus == pytest.ExitCode.NO_TESTS_COLLECTED and session.config.option.markexpr:
        session.exitstatus = pytest.ExitCode.OK
