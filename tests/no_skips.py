"""With ``SISA_NO_SKIPS=1`` in the environment, a test that would be skipped fails: in CI every promise is checked.

Tests with the marker ``data`` may still be skipped: they need a data set that a clone does not bring.
"""

from __future__ import annotations

import os
from collections.abc import Generator

import pytest


def _fail(report: pytest.TestReport | pytest.CollectReport) -> None:
    """Turn the report of a skip into that of a failure with the same reason."""
    reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    report.outcome = "failed"
    report.longrepr = f"{reason}\nSISA_NO_SKIPS=1 is set, so what is missing must be installed (see .ci/run)"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    expected = hasattr(report, "wasxfail") or item.get_closest_marker("data") is not None
    if os.environ.get("SISA_NO_SKIPS") == "1" and report.skipped and not expected:
        _fail(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    report = yield
    if os.environ.get("SISA_NO_SKIPS") == "1" and report.skipped:
        _fail(report)
    return report
