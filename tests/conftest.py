"""What holds for all tests.

Whoever hands them out to others runs none, and need not import torch: it is imported where needed.
"""

import os

import pytest
from hypothesis import settings

from tests.warm import BENCH, Warm

# Here, where it comes before all tests: a test keeps the deadline of when it was declared.
settings.register_profile("any-machine", deadline=None)
settings.load_profile("any-machine")

# A headbench that a test starts is no worker of these tests: to one, benchmarks are disabled.
for name in [name for name in os.environ if name.startswith("PYTEST_XDIST_")]:
    del os.environ[name]


def pytest_configure(config):
    """Asked for what needs a GPU alone, there has to be one."""
    if config.option.markexpr != "cuda":
        return
    import torch

    if not torch.cuda.is_available():
        raise pytest.UsageError(
            f"these tests need a GPU, and torch {torch.__version__} sees none: "
            "they pass or fail on a machine with one alone"
        )


def pytest_ignore_collect(collection_path, config):
    """Those that are asked for by their mark are few: no need to import every file to find them."""
    asked = config.option.markexpr
    if asked in ("serial", "cuda") and collection_path.suffix == ".py":
        return f"mark.{asked}" not in collection_path.read_text("utf-8") or None
    return None


def pytest_collection_modifyitems(items):
    """What needs a GPU is skipped where there is none."""
    if not (marked := [item for item in items if item.get_closest_marker("cuda")]):
        return
    import torch

    if not torch.cuda.is_available():
        for item in marked:
            item.add_marker(pytest.mark.skip(reason="needs a GPU"))


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
