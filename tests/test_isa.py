"""Choosing the instruction set."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import pyfastnn

ROOT = Path(pyfastnn.__file__).parents[1]
ORDER = ["baseline", "avx2", "avx512", "avx512_bf16"]


def test_available_isas_are_known_and_ordered():
    available = pyfastnn.available_isas()
    assert available == [name for name in ORDER if name in available]
    assert "baseline" in available
    assert pyfastnn.active_isa() in available


def test_what_the_processor_says_it_can_do_is_available():
    flags = next(
        line.split() for line in Path("/proc/cpuinfo").read_text().splitlines() if "flags" in line
    )
    available = pyfastnn.available_isas()
    assert ("avx2" in available) == {"avx2", "fma"}.issubset(flags)
    assert ("avx512" in available) <= ("avx512f" in flags)
    assert ("avx512_bf16" in available) <= ("avx512_bf16" in flags)


def test_force_isa_as_a_call_holds_until_the_next(isa):
    for name in pyfastnn.available_isas():
        pyfastnn.force_isa(name)
        assert pyfastnn.active_isa() == name


def test_force_isa_in_a_block_restores_what_was_before():
    before = pyfastnn.active_isa()
    for name in pyfastnn.available_isas():
        with pyfastnn.force_isa(name):
            assert pyfastnn.active_isa() == name
            with pyfastnn.force_isa("baseline"):
                assert pyfastnn.active_isa() == "baseline"
            assert pyfastnn.active_isa() == name
        assert pyfastnn.active_isa() == before


def test_force_isa_restores_after_an_exception():
    before = pyfastnn.active_isa()
    with pytest.raises(ZeroDivisionError), pyfastnn.force_isa("baseline"):
        raise ZeroDivisionError
    assert pyfastnn.active_isa() == before


@pytest.mark.parametrize("name", ["", "avx", "AVX2", "neon128"])
def test_unknown_names_are_refused_with_the_available_ones(name):
    before = pyfastnn.active_isa()
    with pytest.raises(ValueError, match="baseline") as error:
        pyfastnn.force_isa(name)
    assert all(available in str(error.value) for available in pyfastnn.available_isas())
    assert pyfastnn.active_isa() == before


def import_with(isa: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", "import pyfastnn; print(pyfastnn.active_isa())"],
        env={**os.environ, "PYFASTNN_ISA": isa},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
    )


@pytest.mark.parametrize("name", pyfastnn.available_isas())
def test_the_environment_chooses(name):
    assert import_with(name).stdout.strip() == name


def test_a_wrong_name_in_the_environment_stops_the_import():
    result = import_with("avx1024")
    assert result.returncode != 0
    message = result.stderr.strip().splitlines()[-1]
    assert "PYFASTNN_ISA" in message and "avx1024" in message and "baseline" in message
