"""What holds for all tests."""

import os

import pytest

from tests.warm import BENCH, Warm

# A headbench that a test starts is no worker of these tests: to one, benchmarks are disabled.
for name in [name for name in os.environ if name.startswith("PYTEST_XDIST_")]:
    del os.environ[name]


def pytest_ignore_collect(collection_path, config):
    """Those that run by themselves are few: no need to import every file to find them."""
    if config.option.markexpr == "serial" and collection_path.suffix == ".py":
        return "mark.serial" not in collection_path.read_text("utf-8") or None
    return None


def pytest_sessionfinish(session, exitstatus):
    """Of tests asked for by name, none need be among those that run by themselves, or all may."""
    if exitstatus == pytest.ExitCode.NO_TESTS_COLLECTED and session.config.option.markexpr:
        session.exitstatus = pytest.ExitCode.OK


@pytest.fixture(scope="session")
def warm():
    """Starts what runs the bench."""
    server = Warm(*BENCH)
    yield server
    server.close()


@pytest.fixture(scope="session")
def common_path(tmp_path_factory, request):
    """A folder that all processes of these tests have in common."""
    own = tmp_path_factory.getbasetemp()
    return own.parent if hasattr(request.config, "workerinput") else own
