"""csrc/cuda compiled for real architectures: no warning, no spill, budgets, machine code."""

import json
import re
from collections import Counter
from pathlib import Path

import pytest
from host.binaries import ARCHITECTURES, compiled, machine_code, readers, short_name, usage

# Registers of a thread and static shared memory of a block, the most of all architectures. A kernel
# that needs more fails; so does a table that is far from the truth.
BUDGETS = Path(__file__).with_name("budgets.json")
SLACK = 8  # registers that the table may be above the truth


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_it_compiles_without_a_warning_and_nothing_is_spilled(architecture):
    figures = usage(architecture)
    assert len(figures) == 43
    assert {short_name(n): u for n, u in figures.items() if u.spilled or u.stack} == {}


def most(field):
    found = {}
    for architecture in ARCHITECTURES:
        for name, figures in usage(architecture).items():
            name = short_name(name)
            found[name] = max(found.get(name, 0), getattr(figures, field))
    return found


def test_registers_and_shared_memory_stay_within_their_budgets():
    table = json.loads(BUDGETS.read_text())
    registers, shared = most("registers"), most("shared")
    actual = {name: [registers[name], shared[name]] for name in sorted(registers)}
    assert table.keys() == actual.keys()
    over, stale = {}, {}
    for name, budget in table.items():
        if actual[name][0] > budget[0] or actual[name][1] > budget[1]:
            over[name] = (actual[name], budget)
        if budget[0] > actual[name][0] + SLACK:
            stale[name] = (actual[name], budget)
    assert (over, stale) == ({}, {}), "actual, budget"


def opcodes(text):
    found = re.findall(
        r"^\s+/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P\w+\s+)?([A-Z][\w.]*)", text, re.MULTILINE
    )
    return Counter(found)


@pytest.mark.parametrize("architecture", [80, 90, 120])
def test_machine_code_uses_tensor_cores_and_no_local_memory(architecture):
    if readers() is None:
        pytest.skip("cuobjdump cannot be installed: machine code NOT LOOKED AT")
    seen = 0
    for path in compiled(architecture).values():
        for mangled, text in machine_code(path).items():
            name, found = short_name(mangled), opcodes(text)
            families = Counter()
            for opcode, count in found.items():
                families[opcode.split(".")[0]] += count
            assert families["EXIT"] >= 1, name
            # Local memory, and generic accesses, which don't know what memory they go to.
            assert not {"LDL", "STL", "LD", "ST"} & families.keys(), name
            tensor_cores = "_mma<" in name or (name.startswith("wgrad_f32") and "true" in name)
            assert (families["HMMA"] > 0) == tensor_cores, name
            # Fragments come by ldmatrix, or as words of 16 bytes that already are fragments.
            if name.startswith(("linear_mma", "wgrad_mma")):
                assert families["LDSM"] > 0, name
            elif tensor_cores:
                assert found["LDS.128"] > 0 and families["LDSM"] == 0, name
            assert not {"ATOM", "ATOMG", "ATOMS", "RED", "REDG"} & families.keys(), name
            seen += 1
    assert seen == 43
