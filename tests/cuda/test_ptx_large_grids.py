"""Grids of which a few blocks run, and arrays too large for a log of every piece."""

import numpy as np
import ptx
import pytest
from ptx import Fault, FaultKind
from ptx.access_log import AccessLog, Conflict
from ptx.ordering import Ordering
from ptx.paged_log import PagedLog
from snippets import HEADER

# Thread i of block (x, y) stores y * 1000 + x at out + i * step + (y * nx + x) * apart.
KERNEL = (
    HEADER
    + """
.visible .entry store(.param .u64 out, .param .u64 step, .param .u64 apart) {
.reg .b32 %r<8>; .reg .b64 %x<8>;
mov.u32 %r0, %ctaid.x; mov.u32 %r1, %ctaid.y; mov.u32 %r2, %nctaid.x; mov.u32 %r3, %tid.x;
mad.lo.u32 %r4, %r1, 1000, %r0; mad.lo.u32 %r5, %r1, %r2, %r0;
ld.param.u64 %x0, [out]; ld.param.u64 %x1, [step]; ld.param.u64 %x2, [apart];
cvt.u64.u32 %x3, %r3; mad.lo.u64 %x0, %x3, %x1, %x0;
cvt.u64.u32 %x4, %r5; mad.lo.u64 %x0, %x4, %x2, %x0;
st.global.u32 [%x0], %r4; ret; }"""
)
LARGE = 2**24 + 2**20  # numbers


def test_only_the_chosen_blocks_run_and_they_know_who_they_are():
    out = np.full((6, 32), 7, np.uint32)
    report = ptx.run(KERNEL, "store", (3, 2), 32, [out, 4, 128], blocks=[1, 5])
    assert out[:, 0].tolist() == [7, 1, 7, 7, 7, 1002]
    assert report.warps == 2


@pytest.mark.parametrize("blocks", [[], [6], [-1]])
def test_blocks_that_do_not_exist_are_refused(blocks):
    with pytest.raises(ValueError, match="a grid of 6 blocks"):
        ptx.run(KERNEL, "store", (3, 2), 32, [np.zeros(192, np.uint32), 4, 128], blocks=blocks)


def test_faults_name_the_chosen_block():
    with pytest.raises(Fault, match=r"block \(2, 1, 0\) thread 0"):
        ptx.run(KERNEL, "store", (3, 2), 32, [np.zeros(64, np.uint32), 4, 128], blocks=[0, 5])


def test_a_race_in_a_large_array_is_found_where_it_is():
    out = np.zeros(LARGE, np.uint32)
    first, step = 4 * (LARGE - 40), 4
    ptx.run(KERNEL, "store", 2, 20, [out, step, first], blocks=[1])
    assert out[-40:].tolist() == [1] * 20 + [0] * 20
    with pytest.raises(Fault, match="byte 0 of arg 0") as caught:
        ptx.run(KERNEL, "store", 1000, 20, [out, step, 0], blocks=[3, 999])
    assert caught.value.kind == FaultKind.RACE
    memory = ptx.GlobalMemory()
    late = memory.add(out, "out") + first
    with pytest.raises(Fault, match=f"byte {first} of out"):
        ptx.run(KERNEL, "store", 2, 20, [late, step, 0], memory=memory)


def test_pages_answer_as_a_whole_log_does():
    generator = np.random.default_rng(0)
    pieces, threads = 50_000, 128
    seen = set()
    for _ in range(30):
        ordering = Ordering(2, 64)
        logs = AccessLog(pieces, ordering), PagedLog(pieces, ordering)
        for _ in range(20):
            ordering.now += 1
            if generator.random() < 0.3:
                ordering.block_barrier(int(generator.integers(2)))
            touched = generator.permutation(np.arange(0, pieces, 999))[:8]
            who = np.sort(generator.integers(0, threads, 8))
            verb = generator.choice(["read", "write"], p=[0.8, 0.2])
            answers = []
            for log in logs:
                try:
                    getattr(log, verb)(touched, who)
                    answers.append(None)
                except Conflict as conflict:
                    answers.append(vars(conflict))
            assert answers[0] == answers[1]
            seen.add(answers[0] is None)
            assert (logs[0].never_written(touched) == logs[1].never_written(touched)).all()
    assert seen == {True, False}
