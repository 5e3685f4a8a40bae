"""``mma`` and ``ldmatrix``: where every element lies, by integers whose sums are exact."""

import numpy as np
import ptx
import pytest
from ptx.floats import float_to_bf16
from snippets import HEADER

GROUP, PLACE = np.arange(32) // 4, np.arange(32) % 4
SHAPES = [
    ("m16n8k16", "bf16", 16),
    ("m16n8k16", "f16", 16),
    ("m16n8k8", "bf16", 8),
    ("m16n8k8", "f16", 8),
    ("m16n8k8", "tf32", 8),
    ("m16n8k4", "tf32", 4),
]


def registers_of(matrix: np.ndarray, name: str) -> np.ndarray:
    """Bits ``[register, lane]`` of A ``[16, k]`` or of B transposed ``[8, k]``.

    Registers go over the two halves of the rows first, then over the columns, as the manual draws
    it; a lane has row ``lane / 4`` and, at ``lane % 4``, one column or two neighbours.
    """
    width = 1 if name == "tf32" else 2
    encode = {"bf16": float_to_bf16, "f16": lambda x: x.astype(np.float16).view(np.uint16),
              "tf32": lambda x: x.view(np.uint32)}[name]  # fmt: skip
    bits = encode(np.ascontiguousarray(matrix))
    registers = []
    for column in range(0, matrix.shape[1], 4 * width):
        for row in range(0, matrix.shape[0], 8):
            places = column + width * PLACE[:, None] + np.arange(width)
            found = np.ascontiguousarray(bits[row + GROUP[:, None], places])
            registers.append(found.view(np.uint32).ravel())
    return np.array(registers)


def mma_text(shape: str, name: str, a: int, b: int) -> str:
    registers = ", ".join(f"%a{i}" for i in range(a)), ", ".join(f"%b{i}" for i in range(b))
    loads = [(f"%a{i}", "in_a", i) for i in range(a)] + [(f"%b{i}", "in_b", i) for i in range(b)]
    loads += [(f"%d{i}", "in_c", i) for i in range(4)]
    lines = [
        ".visible .entry probe(.param .u64 out, .param .u64 in_a, .param .u64 in_b, "
        ".param .u64 in_c) {",
        ".reg .b32 %a<4>; .reg .b32 %b<4>; .reg .f32 %d<4>; .reg .b32 %i; .reg .b64 %x<3>;",
        "mov.u32 %i, %laneid; mul.wide.u32 %x0, %i, 4;",
    ]
    for register, parameter, number in loads:
        lines.append(f"ld.param.u64 %x1, [{parameter}]; add.u64 %x1, %x1, %x0;")
        lines.append(f"ld.global.b32 {register}, [%x1+{128 * number}];")
    lines.append(
        f"mma.sync.aligned.{shape}.row.col.f32.{name}.{name}.f32 {{%d0, %d1, %d2, %d3}}, "
        f"{{{registers[0]}}}, {{{registers[1]}}}, {{%d0, %d1, %d2, %d3}};"
    )
    for number in range(4):
        lines.append("ld.param.u64 %x1, [out]; add.u64 %x1, %x1, %x0;")
        lines.append(f"st.global.f32 [%x1+{128 * number}], %d{number};")
    return HEADER + "\n".join([*lines, "ret; }"])


@pytest.mark.parametrize(("shape", "name", "depth"), SHAPES)
def test_mma_multiplies_matrices(shape, name, depth):
    generator = np.random.default_rng(depth)
    a, b, c = (
        generator.integers(-8, 9, size).astype(np.float32)
        for size in ((16, depth), (8, depth), (16, 8))
    )
    a_bits, b_bits = registers_of(a, name), registers_of(b, name)
    pairs = [c[row + GROUP, 2 * PLACE + column] for row in (0, 8) for column in (0, 1)]
    out = np.zeros((4, 32), np.float32)
    text = mma_text(shape, name, len(a_bits), len(b_bits))
    report = ptx.run(text, "probe", 1, 32, [out, a_bits, b_bits, np.array(pairs)])
    want = a @ b.T + c
    for number, (row, column) in enumerate([(0, 0), (0, 1), (8, 0), (8, 1)]):
        np.testing.assert_array_equal(out[number], want[row + GROUP, 2 * PLACE + column])
    assert report.families["mma"] == 1


def test_tf32_drops_the_lower_bits_of_its_operands():
    ones, c = np.full((4, 32), np.float32(1)).view("u4"), np.zeros((4, 32), np.float32)
    text, out = mma_text("m16n8k4", "tf32", 2, 1), np.zeros((4, 32), np.float32)
    ptx.run(text, "probe", 1, 32, [out, ones[:2] | 0x1FFF, ones[:1], c])
    assert (out == 4).all()


def ldmatrix_text(count: int, trans: str) -> str:
    registers = ", ".join(f"%d{i}" for i in range(count))
    lines = [
        ".visible .entry probe(.param .u64 out, .param .u64 in, .param .u64 rows) {",
        ".shared .align 16 .b8 tile[1024];",
        ".reg .b32 %d<4>; .reg .b32 %i<4>; .reg .b32 %v<4>; .reg .b64 %x<4>;",
        "mov.u32 %i0, %laneid; mul.wide.u32 %x0, %i0, 4; shl.b32 %i1, %i0, 5;",
        "ld.param.u64 %x1, [in]; cvt.u64.u32 %x2, %i1; add.u64 %x1, %x1, %x2;",
        "mov.u32 %i2, tile; add.u32 %i1, %i1, %i2;",
        "ld.global.v4.b32 {%v0, %v1, %v2, %v3}, [%x1];",
        "st.shared.v4.b32 [%i1], {%v0, %v1, %v2, %v3};",
        "ld.global.v4.b32 {%v0, %v1, %v2, %v3}, [%x1+16];",
        "st.shared.v4.b32 [%i1+16], {%v0, %v1, %v2, %v3}; bar.warp.sync -1;",
        "ld.param.u64 %x1, [rows]; add.u64 %x1, %x1, %x0; ld.global.u32 %i3, [%x1];",
        "add.u32 %i3, %i3, %i2;",
        f"ldmatrix.sync.aligned.m8n8.x{count}{trans}.shared.b16 {{{registers}}}, [%i3];",
        "ld.param.u64 %x1, [out]; add.u64 %x1, %x1, %x0;",
        *(f"st.global.b32 [%x1+{128 * number}], %d{number};" for number in range(count)),
        "ret; }",
    ]
    return HEADER + "\n".join(lines)


@pytest.mark.parametrize("trans", ["", ".trans"])
@pytest.mark.parametrize("count", [1, 2, 4])
def test_ldmatrix_gives_lanes_their_elements(count, trans):
    tile = np.arange(512, dtype=np.uint16).reshape(64, 8)  # 64 rows of 16 bytes
    rows = np.random.default_rng(count).permutation(64)[:32].astype(np.uint32)
    used = rows.copy()
    used[8 * count :] = 0xFFFF  # addresses of lanes that give no row are not looked at
    out = np.zeros((count, 32), np.uint32)
    ptx.run(ldmatrix_text(count, trans), "probe", 1, 32, [out, tile, 16 * used])
    for number in range(count):
        matrix = tile[rows[8 * number : 8 * number + 8]]
        matrix = matrix.T if trans else matrix
        got = out[number].view(np.uint16).reshape(32, 2)
        np.testing.assert_array_equal(got[:, 0], matrix[GROUP, 2 * PLACE])
        np.testing.assert_array_equal(got[:, 1], matrix[GROUP, 2 * PLACE + 1])


OWN_WRITES = f"""{HEADER}
.visible .entry probe(.param .u64 out) {{
.shared .align 16 .b8 tile[128];
.reg .b32 %d; .reg .b32 %i<4>; .reg .b64 %x<2>;
mov.u32 %i0, %laneid; mov.u32 %i1, tile; shl.b32 %i2, %i0, 2; add.u32 %i2, %i2, %i1;
st.shared.u32 [%i2], %i0; // lane / 4 is the row, lane % 4 the place in it
and.b32 %i3, %i0, 7; shl.b32 %i3, %i3, 4; add.u32 %i3, %i3, %i1;
ldmatrix.sync.aligned.m8n8.x1.shared.b16 {{%d}}, [%i3];
ld.param.u64 %x0, [out]; mul.wide.u32 %x1, %i0, 4; add.u64 %x0, %x0, %x1; st.global.u32 [%x0], %d;
ret; }}
"""


def test_ldmatrix_reads_for_the_lanes_that_get_the_bytes():
    out = np.zeros(32, np.uint32)
    ptx.run(OWN_WRITES, "probe", 1, 32, [out])  # every lane gets what it wrote itself
    assert out.tolist() == list(range(32))
    with pytest.raises(ptx.Fault) as caught:
        ptx.run(OWN_WRITES.replace(".x1", ".x1.trans"), "probe", 1, 32, [out])
    assert caught.value.kind == ptx.FaultKind.RACE


def test_ldmatrix_of_a_crooked_row_is_misaligned():
    rows = np.arange(32, dtype=np.uint32) * 16
    rows[3] += 8
    with pytest.raises(ptx.Fault) as caught:
        args = [np.zeros((4, 32), np.uint32), np.zeros(512, np.uint16), rows]
        ptx.run(ldmatrix_text(4, ""), "probe", 1, 32, args)
    assert caught.value.kind == ptx.FaultKind.MISALIGNED and caught.value.threads == (3,)


def test_half_a_warp_cannot_use_tensor_cores():
    text = mma_text("m16n8k4", "tf32", 2, 1)
    a, b, c, out = (np.zeros((4, 32), np.uint32) for _ in range(4))
    with pytest.raises(ptx.Fault, match="does not exist") as caught:
        ptx.run(text, "probe", 1, 16, [out, a, b, c])
    assert caught.value.kind == ptx.FaultKind.COLLECTIVE
