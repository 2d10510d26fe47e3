"""In CI, a tool that is missing is a failure."""

from __future__ import annotations

import pytest

pytest_plugins = ["pytester"]

TESTS = """
import pytest

def test_passes():
    pass

def test_skipped_inside():
    pytest.skip("no node on the PATH")

@pytest.mark.skipif(True, reason="no chromium on the PATH")
def test_skipped_by_a_marker():
    pass

@pytest.fixture
def disk():
    pytest.skip("no mount command here")

def test_skipped_by_a_fixture(disk):
    pass

@pytest.mark.xfail
def test_that_is_known_to_fail():
    assert False

@pytest.mark.data
@pytest.mark.skipif(True, reason="no CIFAR-10")
def test_that_needs_data():
    pass
"""


@pytest.fixture
def project(pytester: pytest.Pytester) -> pytest.Pytester:
    pytester.makeini("[pytest]\nmarkers =\n    data: needs a data set\n")
    pytester.makeconftest('pytest_plugins = ["no_skips"]')
    return pytester


def test_a_skip_is_a_skip_by_hand(project: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SISA_NO_SKIPS", raising=False)
    project.makepyfile(TESTS)
    project.runpytest_inprocess().assert_outcomes(passed=1, skipped=4, xfailed=1)


def test_a_skip_for_a_missing_tool_fails_in_ci(project: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SISA_NO_SKIPS", "1")
    project.makepyfile(TESTS)
    result = project.runpytest_inprocess()
    # A fixture's failure is counted as an error; the known failure and the missing data stay what they are.
    result.assert_outcomes(passed=1, failed=1, errors=2, skipped=1, xfailed=1)
    result.stdout.fnmatch_lines_random(
        ["*no node on the PATH*", "*no chromium on the PATH*", "*no mount command here*", "*SISA_NO_SKIPS=1 is set*"]
    )
    assert result.ret == pytest.ExitCode.TESTS_FAILED


def test_a_module_that_is_skipped_fails_in_ci(project: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SISA_NO_SKIPS", "1")
    project.makepyfile('import pytest\npytest.importorskip("no_such_module")\ndef test_it(): pass\n')
    result = project.runpytest_inprocess()
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*could not import 'no_such_module'*"])
