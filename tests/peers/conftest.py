"""Fixtures: every process that a test starts ends with the test."""

import pytest

from redis_server import RedisServer
from weir import Weir


@pytest.fixture
def weir(tmp_path):
    """Makes Weirs, each in a folder of its own; none is started yet."""
    made = []

    def make(*args, **kwargs):
        made.append(Weir(tmp_path / f"weir-{len(made)}", *args, **kwargs))
        return made[-1]

    yield make
    for one in made:
        one.stop()


@pytest.fixture(params=["weir", "redis-server"])
def server(request, tmp_path):
    """A RESP server with nothing in it: Weir, and a redis-server to hold the test to."""
    with Weir(tmp_path / "weir", redis=True) if request.param == "weir" else RedisServer(tmp_path / "redis") as server:
        yield server


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    """Shows what each Weir of a failed test printed."""
    report = yield
    if report.when == "call" and report.failed and "tmp_path" in item.funcargs:
        for log in sorted(item.funcargs["tmp_path"].glob("**/*.log")):
            text = log.read_text(errors="replace")
            report.sections.append((f"{log.parent.name}/{log.name}", text[-8_000:]))
    return report
