"""Fixtures: every process that a test starts ends with the test."""

import pytest

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


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    """Shows what each Weir of a failed test printed."""
    report = yield
    if report.when == "call" and report.failed and "tmp_path" in item.funcargs:
        for log in sorted(item.funcargs["tmp_path"].glob("**/*.log")):
            text = log.read_text(errors="replace")
            report.sections.append((f"{log.parent.name}/{log.name}", text[-8_000:]))
    return report
