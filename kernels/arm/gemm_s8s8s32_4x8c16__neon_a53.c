// SPDX-License-Identifier: MIT
//
// The ARMv8.0 int8 tile for the in-order Cortex-A53, with loads that it issues beside arithmetic: one of 128 bits blocks the
// vector unit for two cycles; a 64-bit load, an integer load of the upper half and INS hardly do. Each register is loaded anew as
// soon as its last product is on its way.

#include "kernels/arm/gemm_s8s8s32_4x8c16.h"
#include "kernels/tiles.h"

/* The upper half into a general register, the lower half over the old vector, then both together. */
#define UPPER(x, at) "ldr %[" x "], [" at "]\n\t"
#define LOWER(v, at) "ldr d" v ", [" at "\n\t"
#define JOIN(v, x) "ins v" v ".d[1], %[" x "]\n\t"

void gemm_s8s8s32_4x8c16__neon_a53(int taps, int channels, const void *const *rows, const int8_t *b, int32_t *tile)
{
    /* clang-format off */
    TILE(".p2align 4\n"
         "1:\n\t"
         COLUMN_WITH("4", "16", "17", "18", "19", UPPER("y", "%[panel], #8"), , , ,
                     , , , LOWER("4", "%[panel]], #128"),
                     , , , JOIN("4", "y"))
         COLUMN_WITH("5", "20", "21", "22", "23", UPPER("y", "%[panel], #-104"), , , ,
                     , , , LOWER("5", "%[panel], #-112]"),
                     , , , JOIN("5", "y"))
         COLUMN_WITH("6", "24", "25", "26", "27", UPPER("y", "%[panel], #-88"), UPPER("x0", "%[a0], #8"),
                     UPPER("x1", "%[a1], #8"), UPPER("x2", "%[a2], #8"), UPPER("x3", "%[a3], #8"), , ,
                     LOWER("6", "%[panel], #-96]"), , , , JOIN("6", "y"))
         COLUMN_WITH("7", "28", "29", "30", "31", UPPER("y", "%[panel], #-72"), "subs %[left], %[left], #1\n\t", , ,
                     LOWER("0", "%[a0]], #16"), LOWER("1", "%[a1]], #16"), LOWER("2", "%[a2]], #16"),
                     LOWER("3", "%[a3]], #16") LOWER("7", "%[panel], #-80]"),
                     JOIN("0", "x0"), JOIN("1", "x1"), JOIN("2", "x2"), JOIN("3", "x3") JOIN("7", "y"))
         "b.ne 1b\n")
    /* clang-format on */
}
