"""Counts: by hand for known patterns, and by brute force for random ones."""

import numpy as np
import ptx
import pytest
from ptx.counts import sectors, wavefronts
from snippets import HEADER


def brute_force(threads: list[int], positions: list[int], width: int) -> tuple[int, int]:
    """Passes and the least number of passes, lane by lane, from the rule itself."""
    together = min(32, 128 // width)
    groups: dict[int, dict[int, set[int]]] = {}
    for thread, position in zip(threads, positions, strict=True):
        banks = groups.setdefault(thread // together, {})
        for word in range(position // 4, (position + width - 1) // 4 + 1):
            banks.setdefault(word % 32, set()).add(word)
    passes = [max(len(words) for words in banks.values()) for banks in groups.values()]
    return sum(passes), len(passes)


@pytest.mark.parametrize("width", [1, 2, 4, 8, 16])
@pytest.mark.parametrize("seed", range(4))
def test_wavefronts_of_random_accesses(width, seed):
    generator = np.random.default_rng(seed)
    threads = np.sort(generator.permutation(192)[: 150 if seed else 192]) + 64 * seed
    positions = width * generator.integers(0, 4096 // width, len(threads))
    passes, extra = wavefronts(threads, positions, width)
    assert (passes, passes - extra) == brute_force(threads.tolist(), positions.tolist(), width)


LANES = np.arange(32)


@pytest.mark.parametrize(
    ("positions", "width", "passes", "conflicts"),
    [
        (4 * LANES, 4, 1, 0),
        (0 * LANES, 4, 1, 0),  # everybody reads one word
        (2 * LANES, 2, 1, 0),
        (8 * LANES, 4, 2, 1),
        (128 * LANES, 4, 32, 31),
        (132 * LANES, 4, 1, 0),  # padded by one word
        (8 * LANES, 8, 2, 0),
        (16 * LANES, 16, 4, 0),
        (128 * LANES, 16, 32, 28),  # eight rows of 128 bytes on the same four banks
        (144 * LANES, 16, 4, 0),  # padded by 16 bytes
        (64 * LANES, 16, 16, 12),
    ],
)
def test_wavefronts_of_known_patterns(positions, width, passes, conflicts):
    assert wavefronts(LANES, positions, width) == (passes, conflicts)


def test_sectors_of_known_patterns():
    assert sectors(LANES, 4 * LANES) == 4
    assert sectors(LANES, 4 * LANES + 16) == 5
    assert sectors(LANES, 32 * LANES) == 32
    assert sectors(LANES, 0 * LANES) == 1
    assert sectors(np.arange(64), 4 * (np.arange(64) % 32)) == 8  # every warp for itself


TEXT = (
    HEADER
    + """
.visible .entry probe(.param .u64 x, .param .u64 y, .param .u32 turns) {
.reg .pred %p<2>; .reg .b32 %r<8>; .reg .b64 %x<8>; .reg .f32 %f<4>;
.shared .align 16 .b8 place[8192];
ld.param.u64 %x0, [x];
ld.param.u64 %x1, [y];
ld.param.u32 %r0, [turns];
mov.u32 %r1, %tid.x;
mul.wide.u32 %x2, %r1, 4;
add.u64 %x0, %x0, %x2;
add.u64 %x1, %x1, %x2;
mov.u32 %r2, place;
mad.lo.u32 %r2, %r1, 128, %r2;
loop:
ld.global.f32 %f0, [%x0];
st.shared.f32 [%r2], %f0;
fma.rn.f32 %f1, %f0, %f0, %f0;
sub.u32 %r0, %r0, 1;
setp.ne.u32 %p0, %r0, 0;
@%p0 bra loop;
setp.lt.u32 %p1, %r1, 40;
@%p1 st.global.f32 [%x1], %f1;
ret;
}
"""
)


@pytest.fixture
def report():
    return ptx.run(TEXT, "probe", 1, 64, [np.ones(64, "f4"), np.ones(64, "f4"), 3])


def test_counts_of_a_kernel(report):
    assert report.instructions == 2 * (9 + 3 * 6 + 3)
    assert report.families["float"] == 6 and report.families["store"] == 6 + 2
    assert report.families["control"] == 2 * (3 + 1)
    assert report.bytes_loaded == {"arg 0": 3 * 256} and report.bytes_stored == {"arg 1": 160}
    assert report.sectors == 3 * 8 + 5
    assert (report.wavefronts, report.bank_conflicts) == (3 * 64, 3 * 62)
    assert report.mma_share == 0 and report.active_lanes == 32 - (24 + 64) / 60


def test_the_steady_loop_and_any_lines_can_be_looked_at(report):
    start = TEXT[: TEXT.index("ld.global")].count("\n") + 1
    assert report.loops == [(start, start + 5)]
    loop = report.steady_loop
    assert loop.instructions == 2 * 3 * 6 and loop.bytes_stored == {}
    assert report.region(start, start).families == {"load": 6}
    assert "ld.global.f32" in loop.lines() and "ret" not in loop.lines()
    assert "warp" in str(report) and "bank conflicts" in str(report)


def test_a_kernel_without_a_loop_has_no_steady_loop(report):
    text = TEXT.replace("@%p0 bra loop;", "")
    with pytest.raises(ValueError, match="no loop"):
        ptx.run(text, "probe", 1, 64, [np.ones(64, "f4"), np.ones(64, "f4"), 3]).steady_loop  # noqa: B018
