"""Machine code is counted as it stands: which loops are busy, what is in them, how many warps fit."""

from __future__ import annotations

from benchmarks.kernel_code import Loop, loops, resident_warps

CODE = """
.L_x_9:
        /*0000*/                   MOV R1, c[0x0][0x28] ;
.L_x_0:
        /*0010*/                   IADD3 R2, R2, 0x1, RZ ;
        /*0020*/              @P1  BRA `(.L_x_0) ;
.L_x_1:
        /*0030*/                   LDSM.16.M88.4 R84, [R5] ;
.L_x_2:
        /*0040*/              @!P0 LDG.E.U8 R3, [R6] ;
        /*0050*/                   ISETP.GE.AND P0, PT, R3, 0xf, PT ;
        /*0060*/              @!P0 BRA `(.L_x_2) ;
        /*0070*/                   HMMA.16816.F32 R68, R20, R84, R68 ;
        /*0080*/              @P2  BRA `(.L_x_3) ;
        /*0090*/                   BAR.SYNC.DEFER_BLOCKING 0x0 ;
.L_x_3:
        /*00a0*/              @!P0 BRA `(.L_x_1) ;
        /*00b0*/                   EXIT ;
        /*00c0*/                   BRA `(.L_x_9) ;
"""


def test_busy_loops() -> None:
    """A loop without products or barriers is none of its own, one around a busy loop is left out, a skip is no loop."""
    assert list(loops(CODE)) == [Loop(8, {"HMMA": 1, "LDG": 1, "LDSM": 1, "BAR": 1}, [3])]


def test_warps_that_fit() -> None:
    assert resident_warps("90", registers=128, threads=256, shared=37920) == 16  # registers: 2 blocks
    assert resident_warps("90", registers=129, threads=256, shared=0) == 8  # registers come in eights of a lane
    assert resident_warps("120", registers=32, threads=128, shared=49152) == 8  # shared memory: 2 blocks
    assert resident_warps("87", registers=16, threads=256, shared=0) == 48  # the SM's own limit
