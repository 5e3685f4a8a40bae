"""scikit-learn's own tests of its networks, run on pyfastnn's."""

import os
import re
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

TESTS = Path(__file__).parent
PAGE = TESTS.parent / "docs" / "sklearn.md"


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory) -> dict[str, list[str]]:
    """Messages of the failures of every test function; none: it passed."""
    report = tmp_path_factory.mktemp("report") / "report.xml"
    report_file = f"--junitxml={report}"
    options = ["-q", "-c", os.devnull, "-p", "no:cacheprovider", "-p", "scikit_learn_substitute"]
    tests = ["--pyargs", "sklearn.neural_network.tests.test_mlp"]
    subprocess.run(
        [sys.executable, "-m", "pytest", *options, report_file, *tests],
        env=os.environ | {"PYTHONPATH": str(TESTS), "OMP_NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL,
        timeout=300,
        check=False,
    )
    found: dict[str, list[str]] = {}
    for case in ElementTree.parse(report).iter("testcase"):
        messages = found.setdefault(case.attrib["name"].split("[")[0], [])
        messages += [(entry.text or "") for entry in case if entry.tag in ("failure", "error")]
        assert case.find("skipped") is None, case.attrib
    return found


def test_all_of_scikit_learns_tests_pass_but_those_of_the_page(outcomes):
    listed = re.findall(r"^\| `(test_\w+)` \|", PAGE.read_text(), re.MULTILINE)
    assert len(outcomes) > 40
    assert sorted(name for name, messages in outcomes.items() if messages) == sorted(listed)


def test_those_of_the_page_ask_for_another_activation_or_solver(outcomes):
    refusal = re.compile("The '(activation|solver|loss)' parameter of MLP.* must be a str among")
    for name, messages in outcomes.items():
        assert all(refusal.search(message) for message in messages), name


def test_the_page_says_how_many_there_are(outcomes):
    passed = sum(not messages for messages in outcomes.values())
    assert f"{passed} of {len(outcomes)} test functions pass" in PAGE.read_text()
