"""Control flow, barriers and warps: who may run, who has to wait, and what is a fault."""

import itertools

import numpy as np
import ptx
import pytest
from ptx import Checks, Fault, FaultKind
from ptx.access_log import AccessLog, Conflict
from ptx.ordering import Ordering
from snippets import HEADER

THREAD = (
    "mov.u32 %i, %tid.x; mul.wide.u32 %x0, %i, 4; ld.param.u64 %x1, [out]; add.u64 %x1, %x1, %x0;"
)


def run(body: str, threads: int = 64, checks: Checks | None = None) -> np.ndarray:
    """Run a kernel of one block; ``%d`` starts at 0 and is stored at the end."""
    text = HEADER + "\n".join(
        [
            ".visible .entry probe(.param .u64 out) {",
            ".reg .pred %p<4>; .reg .b32 %i; .reg .b32 %d; .reg .b32 %r<8>; .reg .b64 %x<4>;",
            ".shared .align 4 .b8 place[256];",
            THREAD,
            "mov.u32 %d, 0;",
            body,
            "st.global.u32 [%x1], %d; ret; }",
        ]
    )
    out = np.zeros(threads, np.uint32)
    ptx.run(text, "probe", 1, threads, [out], checks=checks)
    return out


def fault(body: str, threads: int = 64, checks: Checks | None = None) -> Fault:
    with pytest.raises(Fault) as caught:
        run(body, threads, checks)
    return caught.value


LOOP = """
    and.b32 %r0, %i, 7;
again: setp.eq.u32 %p0, %r0, 0; @%p0 bra done;
    add.u32 %d, %d, %r0; sub.u32 %r0, %r0, 1; bra again;
done: {after}
"""


def test_threads_meet_again_after_loops_of_different_lengths():
    got = run(
        LOOP.format(after="activemask.b32 %r1; popc.b32 %r2, %r1; mad.lo.u32 %d, %r2, 100, %d;")
    )
    assert got.tolist() == [3200 + n * (n + 1) // 2 for n in range(8)] * 8


def test_threads_meet_again_behind_a_branch_that_some_take():
    body = "setp.lt.u32 %p0, %i, 16; @%p0 bra skip; mov.u32 %r3, 1; skip: activemask.b32 %r1;"
    assert run(body + "popc.b32 %d, %r1;").tolist() == [32] * 64


def test_a_table_of_branches():
    body = """
        and.b32 %r0, %i, 3;
        brx.idx %r0, table;
    table: .branchtargets a, b, c, b;
    a: mov.u32 %d, 10; bra end;
    b: mov.u32 %d, 20; bra end;
    c: mov.u32 %d, 30;
    end:"""
    assert run(body).tolist() == [10, 20, 30, 20] * 16


def test_endless_loops_end():
    found = fault("again: bra again;", checks=Checks(max_steps=1000))
    assert found.kind == FaultKind.ENDLESS and found.instruction == "bra again"


def test_lanes_may_come_to_a_shuffle_one_after_the_other():
    # Odd lanes take the long way; even ones wait for them at the shuffle.
    body = """
        and.b32 %r0, %i, 1; setp.eq.u32 %p0, %r0, 0; @%p0 bra meet; bra detour;
    meet: shfl.sync.bfly.b32 %d, %i, 1, 31, -1; bra end;
    detour: add.u32 %r1, %r1, 1; bra meet;
    end:"""
    assert run(body).tolist() == [i ^ 1 for i in range(32)] + [32 + (i ^ 1) for i in range(32)]


def test_halves_of_a_warp_exchange_with_masks_of_their_own():
    body = """
        setp.lt.u32 %p0, %i, 16; @!%p0 bra upper;
        shfl.sync.bfly.b32 %d, %i, 3, 31, 0xFFFF; bra end;
    upper: shfl.sync.bfly.b32 %d, %i, 5, 31, 0xFFFF0000;
    end:"""
    want = [i ^ 3 for i in range(16)] + [i ^ 5 for i in range(16, 32)]
    assert run(body, 32).tolist() == want


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ("setp.lt.u32 %p0, %i, 40; @%p0 shfl.sync.idx.b32 %d, %i, 0, 31, -1;", "lanes 8, 9, "),
        ("shfl.sync.idx.b32 %d, %i, 0, 31, 0xFFFE;", "not in its own mask"),
        ("setp.lt.u32 %p0, %i, 16; @!%p0 bra end; shfl.sync.idx.b32 %d, %i, 20, 31, 0xFFFF; end:",
         "reads lane 20, which mask 0xffff leaves out"),
        ("setp.eq.u32 %p0, %i, 3; @%p0 exit; vote.sync.ballot.b32 %d, %p0, -1;", "has left"),
        ("setp.lt.u32 %p0, %i, 5; @%p0 bar.warp.sync 0x3F;", "lanes 5 of its warp"),
        ("and.b32 %r0, %i, 1; setp.eq.u32 %p0, %r0, 0; selp.b32 %r1, -1, 0x55555555, %p0;"
         "vote.sync.ballot.b32 %d, %p0, %r1;", "not in its own mask"),
    ],
)  # fmt: skip
def test_collectives_without_all_lanes_are_faults(body, text):
    found = fault(body)
    assert found.kind == FaultKind.COLLECTIVE and text in str(found)
    assert found.instruction in body.replace("; ", ";")


def test_a_barrier_at_two_places_is_a_fault():
    body = """
        setp.lt.u32 %p0, %i, 32; @%p0 bra first; bar.sync 0; bra end;
    first: bar.sync 0;
    end:"""
    found = fault(body)
    assert found.kind == FaultKind.BARRIER and "waits at PTX line" in found.detail


def test_threads_that_have_left_pass_barriers_only_on_request():
    body = "setp.ge.u32 %p0, %i, 40; @%p0 exit; bar.sync 0; mov.u32 %d, 1;"
    found = fault(body)
    assert found.kind == FaultKind.BARRIER and "block 0 thread 40 has left" in found.detail
    got = run(body, checks=Checks(exited_pass_barriers=True))
    assert got.tolist() == [1] * 40 + [0] * 24


@pytest.mark.parametrize("body", ["bar.sync 1;", "bar.sync 0, 32;", "bar.arrive 0, 64;"])
def test_barriers_of_parts_of_a_block_are_unsupported(body):
    assert fault(body).kind == FaultKind.UNSUPPORTED


def test_a_trap_names_the_threads():
    found = fault("setp.eq.u32 %p0, %i, 33; @%p0 trap;")
    assert (found.kind, found.threads) == (FaultKind.TRAP, (33,))


STORE = "mov.u32 %r0, place; shl.b32 %r1, %i, 2; add.u32 %r1, %r0, %r1; st.shared.u32 [%r1], %i; "
LOAD = (
    "xor.b32 %r2, %i, {xor}; shl.b32 %r2, %r2, 2; add.u32 %r2, %r0, %r2; ld.shared.u32 %d, [%r2];"
)


@pytest.mark.parametrize("barrier", ["bar.sync 0;", "bar.warp.sync -1;"])
def test_a_barrier_orders_a_store_before_a_load(barrier):
    got = run(STORE + barrier + LOAD.format(xor=1))
    assert got.tolist() == [i ^ 1 for i in range(64)]


@pytest.mark.parametrize(
    ("barrier", "xor"),
    [
        ("", 1),
        ("bar.warp.sync -1;", 32),
        ("membar.cta;", 1),
        ("shfl.sync.idx.b32 %d, %i, 0, 31, -1;", 1),
    ],
)
def test_nothing_else_does(barrier, xor):
    found = fault(STORE + barrier + LOAD.format(xor=xor))
    assert (found.kind, found.threads) == (FaultKind.RACE, (0, xor))


def meeting(*lanes: int) -> str:
    """``__syncwarp`` of these lanes, the others pass by."""
    mask = sum(1 << lane for lane in lanes)
    return f"""
        shr.u32 %r5, {mask}, %i; and.b32 %r5, %r5, 1; setp.eq.u32 %p0, %r5, 1;
        @%p0 bar.warp.sync {mask};"""


@pytest.mark.parametrize(("writer", "between", "reader"), [(0, 1, 2), (2, 1, 0), (1, 2, 0)])
def test_order_passes_on_from_lane_to_lane(writer, between, reader):
    # What the writer did is ordered before the reader reads it, though the two never met.
    read = f"setp.eq.u32 %p2, %i, {reader}; @!%p2 bra end; {LOAD.format(xor=writer ^ reader)} end:"
    first, second = meeting(writer, between), meeting(between, reader)
    assert run(STORE + first + second + read, 32)[reader] == writer
    for missing in (first, second, second + first):
        assert fault(STORE + missing + read, 32).kind == FaultKind.RACE


def test_stores_of_two_lanes_to_one_place_are_a_race_also_with_one_value():
    body = "mov.u32 %r0, place; st.shared.u32 [%r0], 7;"
    assert fault(body).kind == FaultKind.RACE
    body = "mov.u32 %r0, place; atom.shared.exch.b32 %d, [%r0], 7;"
    with pytest.raises(Fault, match="nobody has written"):
        run(body)


def test_neighbouring_bytes_do_not_race():
    body = """
        mov.u32 %r0, place; add.u32 %r1, %r0, %i; st.shared.u8 [%r1], %i; bar.sync 0;
        shl.b32 %r2, %i, 2; and.b32 %r2, %r2, 63; add.u32 %r2, %r0, %r2; ld.shared.u32 %d, [%r2];"""
    want = np.arange(64, dtype=np.uint8).view(np.uint32)
    assert run(body).tolist() == want.tolist() * 4


@pytest.mark.parametrize("threads", list(itertools.permutations([3, 5, 9])))
def test_all_readers_of_one_instruction_are_remembered(threads):
    pieces = np.zeros(3, np.int64)
    for writer in threads:
        log = AccessLog(4, Ordering(1, 64))
        log.read(pieces, np.array(threads))
        with pytest.raises(Conflict) as caught:
            log.write(pieces[:1], np.array([writer]))
        assert caught.value.other in set(threads) - {writer}
