"""Arrays, bounds, copies in flight, and blocks that meet in global memory."""

import numpy as np
import ptx
import pytest
from ptx import Checks, Fault, FaultKind, GlobalMemory
from snippets import HEADER

START = (
    "mov.u32 %i, %tid.x; mov.u32 %b, %ctaid.x; mul.wide.u32 %x0, %i, 4; mul.wide.u32 %x1, %b, 4;"
    "ld.param.u64 %y, [y]; ld.param.u64 %z, [z]; mov.u32 %s, place;"
)


def text_of(body: str) -> str:
    return HEADER + "\n".join(
        [
            ".visible .entry probe(.param .u64 y, .param .u64 z) {",
            ".reg .pred %p<4>; .reg .b32 %i; .reg .b32 %b; .reg .b32 %s; .reg .b32 %r<8>;",
            ".reg .b64 %x<4>; .reg .b64 %y; .reg .b64 %z;",
            ".shared .align 16 .b8 place[1024];",
            START,
            body,
            "ret; }",
        ]
    )


def run(body: str, y: object = None, z: object = None, blocks: int = 1, **options) -> np.ndarray:
    y = np.zeros(64, np.uint32) if y is None else y
    z = np.arange(64, dtype=np.uint32) if z is None else z
    ptx.run(text_of(body), "probe", blocks, 32, [y, z], **options)
    return y


def fault(body: str, *arrays: object, **options) -> Fault:
    with pytest.raises(Fault) as caught:
        run(body, *arrays, **options)
    return caught.value


LOAD = "add.u64 %x2, %z, %x0; ld.global.u32 %r0, [%x2{offset}];"
STORE = "add.u64 %x3, %y, %x0; st.global.u32 [%x3{offset}], %r0;"
COPY = LOAD.format(offset="") + STORE.format(offset="")


def test_arrays_are_changed_in_place():
    assert run(COPY)[:33].tolist() == [*range(32), 0]


@pytest.mark.parametrize(
    ("offset", "lanes"),
    [("+132", [31]), ("+-4", [0]), ("+4096", range(32)), ("+-1000000", range(32))],
)
def test_accesses_outside_of_an_array_name_the_array_and_the_threads(offset, lanes):
    found = fault(LOAD.format(offset=offset))
    assert found.kind == FaultKind.OUT_OF_BOUNDS and "of arg 1, which has 256 bytes" in str(found)
    assert found.threads == tuple(lanes)
    found = fault("mov.u32 %r0, 0; " + STORE.format(offset=offset))
    assert found.kind == FaultKind.OUT_OF_BOUNDS and "arg 0" in str(found)


def test_null_and_wild_pointers():
    for pointer in (0, 4096, 1 << 60):
        found = fault(LOAD.format(offset=""), None, pointer)
        assert found.kind == FaultKind.OUT_OF_BOUNDS and "is in no array" in str(found)


def test_pointers_into_the_middle_of_an_array():
    memory, z = GlobalMemory(), np.arange(64, dtype=np.uint32)
    got = run(COPY, None, memory.add(z, "Z") + 128, memory=memory)
    assert got[:32].tolist() == list(range(32, 64))


@pytest.mark.parametrize("width", [2, 4])
def test_vectors_must_be_aligned(width):
    registers = ", ".join(f"%r{n}" for n in range(width))
    found = fault(f"ld.global.v{width}.u32 {{{registers}}}, [%z+4];")
    assert found.kind == FaultKind.MISALIGNED and f"multiple of {4 * width}" in str(found)
    run(f"ld.global.v{width}.u32 {{{registers}}}, [%z+{4 * width}];")


def test_read_only_arrays():
    memory, z = GlobalMemory(), np.arange(64, dtype=np.uint32)
    y = np.zeros(64, np.uint32)
    memory.add(y, "Y", read_only=True)
    found = fault(COPY, y, z, memory=memory)
    assert found.kind == FaultKind.READ_ONLY and "Y" in str(found) and not y.any()
    y.flags.writeable = False
    assert fault(COPY, y).kind == FaultKind.READ_ONLY
    assert fault("st.param.u32 [y], 1;").kind == FaultKind.READ_ONLY


def test_arrays_that_overlap_or_have_gaps_are_refused():
    whole = np.zeros(128, np.uint32)
    for y, z, text in (
        (whole[:64], whole[32:96], "overlaps"),
        (whole[::2], None, "not contiguous"),
    ):
        with pytest.raises(ValueError, match=text):
            run(COPY, y, z)


def test_wrong_arguments_are_errors():
    text = text_of(COPY)
    for args, error in (([0], "takes 2 arguments, got 1"), ([b"123", 0], "has 3 bytes")):
        with pytest.raises(ValueError, match=error):
            ptx.run(text, "probe", 1, 32, args)
    with pytest.raises(KeyError, match="0 kernels contain 'other'"):
        ptx.run(text, "other", 1, 32, [0, 0])
    with pytest.raises(
        ValueError, match="argument 1 is 18446744073709551616, the parameter has 64"
    ):
        ptx.run(text, "probe", 1, 32, [0, 1 << 64])
    with pytest.raises(TypeError, match="must be an integer"):
        ptx.run(text, "probe", 1, 32, [1.5, 0])


ONE = "setp.eq.u32 %p0, %i, 0; @!%p0 bra end;"  # one thread of each block


@pytest.mark.parametrize(
    "body",
    [
        "st.global.u32 [%y], %b;",
        "ld.global.u32 %r0, [%y]; add.u32 %r0, %r0, 1; st.global.u32 [%y], %r0;",
        "add.u64 %x2, %y, %x1; st.global.u32 [%x2], 1; ld.global.u32 %r0, [%y+4];",
        "atom.global.add.u32 %r0, [%y], 1; ld.global.u32 %r0, [%y];",
        "setp.eq.u32 %p1, %b, 0; @%p1 red.global.add.u32 [%y], 1; @!%p1 st.global.u32 [%y], 7;",
        "setp.eq.u32 %p1, %b, 1; @%p1 red.global.add.u32 [%y], 1; @!%p1 ld.global.u32 %r0, [%y];",
    ],
)
def test_blocks_that_meet_in_global_memory_race(body):
    found = fault(ONE + body + "end:", blocks=2)
    assert found.kind == FaultKind.RACE and "arg 0" in str(found)
    assert {thread // 32 for thread in found.threads if thread >= 0} <= {0, 1}
    run(ONE + body + "end:", blocks=2, checks=Checks(races=False))


@pytest.mark.parametrize(
    "body",
    [
        "add.u64 %x2, %y, %x1; ld.global.u32 %r0, [%x2]; st.global.u32 [%x2], %b;",
        "red.global.add.u32 [%y], 1;",
        "ld.global.u32 %r0, [%y]; add.u64 %x2, %y, %x1; st.global.u32 [%x2+4], %r0;",
    ],
)
def test_blocks_that_do_not_meet_do_not_race(body):
    run(ONE + body + "end:", blocks=3)


@pytest.mark.parametrize(
    "body",
    [
        # Block 1 orders its own accesses with barriers, which say nothing of block 0.
        "@%p0 ld.global.u32 %r0, [%y]; bar.sync 0; @%p1 ld.global.u32 %r0, [%y]; bar.sync 0;"
        "@%p1 st.global.u32 [%y], 1;",
        "@%p0 red.global.add.u32 [%y], 1; bar.sync 0; @%p1 ld.global.u32 %r0, [%y];",
        "@%p0 red.global.add.u32 [%y], 1; bar.sync 0; @%p1 st.global.u32 [%y], 1;",
    ],
)
def test_a_barrier_does_not_order_blocks(body):
    select = "setp.eq.u32 %p0, %i, 0; setp.eq.and.u32 %p1, %b, 1, %p0;"
    assert fault(select + body, blocks=2).kind == FaultKind.RACE
    run(select.replace("%b, 1", "%b, 0") + body, blocks=1)


def test_threads_of_a_block_race_in_global_memory_unless_a_barrier_orders_them():
    first, second = "st.global.u32 [%x2], %i;", "xor.b32 %r0, %i, 9; mul.wide.u32 %x3, %r0, 4;"
    second += "add.u64 %x3, %y, %x3; ld.global.u32 %r1, [%x3];"
    body = f"add.u64 %x2, %y, %x0; {first} {{barrier}} {second}"
    for barrier in ("bar.sync 0;", "bar.warp.sync -1;"):
        run(body.format(barrier=barrier))
    assert fault(body.format(barrier="")).threads == (0, 9)


def test_loads_through_the_read_only_cache_do_not_see_what_the_kernel_writes():
    again = "ld.global.nc.u32 %r1, [%x3];"
    found = fault(COPY + again)
    assert found.kind == FaultKind.RACE and found.instruction == again[:-1]
    run(LOAD.format(offset="").replace("global", "global.nc") + STORE.format(offset=""))


# Thread i copies 16 bytes to place[16 i]; the copy of stage n comes n groups later.
ISSUE = "shl.b32 %r0, %i, 4; add.u32 %r1, %s, %r0; cvt.u64.u32 %x2, %r0; add.u64 %x2, %z, %x2;"
ISSUE += "cp.async.cg.shared.global [%r1{at}], [%x2], 16{size}; {commit}"
COMMIT = "cp.async.commit_group;"
READ = "shl.b32 %r2, %i, 2; add.u32 %r2, %s, %r2; ld.shared.u32 %r3, [%r2{at}];"
READ += "add.u64 %x3, %y, %x0; st.global.u32 [%x3], %r3;"
NUMBERS = np.arange(128, dtype=np.uint32)


def issue(at: str = "", size: str = "", commit: str = COMMIT) -> str:
    return ISSUE.format(at=at, size=size, commit=commit)


def read(at: str = "") -> str:
    return READ.format(at=at)


def test_copies_arrive_when_their_thread_waits_and_a_barrier_shows_them_to_others():
    got = run(issue() + "cp.async.wait_group 0; bar.sync 0;" + read(), None, NUMBERS)
    assert got[:32].tolist() == list(range(32))
    got = run(issue(commit="") + "cp.async.wait_all; bar.sync 0;" + read(), None, NUMBERS)
    assert got[:32].tolist() == list(range(32))


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (issue() + "bar.sync 0;" + read(), FaultKind.IN_FLIGHT),
        (issue() + "cp.async.wait_group 1; bar.sync 0;" + read(), FaultKind.IN_FLIGHT),
        (issue(commit="") + "cp.async.wait_group 0; bar.sync 0;" + read(), FaultKind.IN_FLIGHT),
        (issue() + "cp.async.wait_group 0;" + read(), FaultKind.RACE),
        (issue() + "bar.sync 0; cp.async.wait_group 0;" + read(), FaultKind.RACE),
        (issue() + "st.shared.u32 [%r1], 0;", FaultKind.IN_FLIGHT),
        (issue() + issue(), FaultKind.IN_FLIGHT),
        (issue() + issue("+512") + "cp.async.wait_group 1; bar.sync 0;" + read("+512"),
         FaultKind.IN_FLIGHT),
        ("setp.lt.u32 %p0, %i, 31; " + issue() + "@%p0 cp.async.wait_all; bar.sync 0;" + read(),
         None),
        ("setp.lt.u32 %p0, %i, 1; " + issue() + "@!%p0 cp.async.wait_all; bar.sync 0;" + read(),
         FaultKind.IN_FLIGHT),
    ],
)  # fmt: skip
def test_copies_that_have_not_arrived_may_not_be_touched(body, kind):
    if kind is None:  # thread 31 does not wait, and nobody needs its bytes: 128 of the first 8
        run(body, None, NUMBERS)
    else:
        assert fault(body, None, NUMBERS).kind == kind


def test_groups_are_counted_for_every_thread():
    # Odd threads commit one group more, so that one group may stay open for them.
    body = issue() + "and.b32 %r4, %i, 1; setp.eq.u32 %p0, %r4, 1; @%p0 cp.async.commit_group;"
    own = "ld.shared.u32 %r3, [%r1]; add.u64 %x3, %y, %x0; st.global.u32 [%x3], %r3;"
    found = fault(body + "cp.async.wait_group 1;" + own, None, NUMBERS)
    assert found.kind == FaultKind.IN_FLIGHT and found.threads == (0, 0)
    got = run(body + "cp.async.wait_group 1; @!%p0 cp.async.wait_group 0;" + own, None, NUMBERS)
    assert got[:32].tolist() == list(range(0, 128, 4))


def test_the_rest_of_a_shorter_source_is_zero_and_is_not_read():
    wait = "cp.async.wait_all; bar.sync 0;" + read()
    got = run(issue(size=", 8") + wait, None, NUMBERS)
    assert got[:32].tolist() == [i if i % 4 < 2 else 0 for i in range(32)]
    lanes = "setp.lt.u32 %p0, %i, 4; selp.b32 %r5, 16, 0, %p0;"
    got = run(lanes + issue(size=", %r5") + wait, None, NUMBERS[:16].copy())
    assert got[:32].tolist() == [*range(16), *[0] * 16]
    assert fault(issue() + wait, None, NUMBERS[:16].copy()).kind == FaultKind.OUT_OF_BOUNDS


def test_copies_are_aligned():
    assert fault(issue(at="+8"), None, NUMBERS).kind == FaultKind.MISALIGNED


def test_shared_memory_is_bounded_and_starts_unwritten():
    assert fault("ld.shared.u32 %r0, [%s+1024];").kind == FaultKind.OUT_OF_BOUNDS
    found = fault("ld.shared.u32 %r0, [%s+8];")
    assert found.kind == FaultKind.UNINITIALISED and "byte 8 " in str(found)
    body = "ld.shared.u32 %r0, [%s+8];" + STORE.format(offset="")
    got = run(body, checks=Checks(uninitialised=False))
    assert np.isnan(got[:32].view(np.float32)).all()


def test_dynamic_shared_memory_lies_behind_the_static_one_at_its_alignment():
    text = text_of("ld.shared.u32 %r0, [dynamic+OFFSET];")
    text = text.replace("place[1024]", "place[20]").replace(
        ".visible", ".extern .shared .align 16 .b8 dynamic[];\n.visible"
    )
    for offset, kind in ((28, FaultKind.UNINITIALISED), (32, FaultKind.OUT_OF_BOUNDS)):
        with pytest.raises(Fault) as caught:
            ptx.run(text.replace("OFFSET", str(offset)), "probe", 1, 32, [0, 0], shared_bytes=32)
        assert caught.value.kind == kind
        assert f"byte {32 + offset} of shared memory" in str(caught.value)
