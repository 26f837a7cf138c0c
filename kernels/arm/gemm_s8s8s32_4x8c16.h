// SPDX-License-Identifier: MIT
//
// gemm_s8s8s32_4x8c16.h - what the two orders of the ARMv8.0 int8 tile share.
//
// SMULL and SMLAL2 add two products in 16 bits (128 * 128 + 128 * 127 = 32640 fits: a column holds -128 at most once), SADALP adds
// neighbouring lanes into 32 bits. 16 depths lie along the lanes and are added up at the end. Where only one pipe multiplies,
// this is twice as fast as multiplying by lane.
//
// A tile is two passes of 4x4, whose sums, rows, columns and products fit into the registers; GCC would not keep them there,
// hence assembly. The loop (label 1, which each order brings) multiplies one step of 16 depths while it loads the next, also
// across taps; LEAVE multiplies the last step, so nothing beyond the rows is read.
//
// v0-v3: rows, v4-v7: columns, v8-v11: products of one column, v16-v31: sums, column by column.

#ifndef KERNELS_ARM_GEMM_S8S8S32_4X8C16_H
#define KERNELS_ARM_GEMM_S8S8S32_4X8C16_H

#include <stddef.h>
#include <stdint.h>

#define MULL(p, a, b) "smull v" p ".8h, v" a ".8b, v" b ".8b\n\t"
#define MLAL(p, a, b) "smlal2 v" p ".8h, v" a ".16b, v" b ".16b\n\t"
#define ADALP(sum, p) "sadalp v" sum ".4s, v" p ".8h\n\t"

/* Four rows by the column in register b. Every result is used four instructions later, which is its latency on in-order cores.
   What follows the sums' names is placed after each multiplication (u), accumulation (l) and addition (j). */
#define COLUMN_WITH(b, s0, s1, s2, s3, u0, u1, u2, u3, l0, l1, l2, l3, j0, j1, j2, j3)                         \
    MULL("8", "0", b) u0 MULL("9", "1", b) u1 MULL("10", "2", b) u2 MULL("11", "3", b) u3                      \
    MLAL("8", "0", b) l0 MLAL("9", "1", b) l1 MLAL("10", "2", b) l2 MLAL("11", "3", b) l3                      \
    ADALP(s0, "8") j0 ADALP(s1, "9") j1 ADALP(s2, "10") j2 ADALP(s3, "11") j3
#define COLUMN(b, s0, s1, s2, s3) COLUMN_WITH(b, s0, s1, s2, s3, , , , , , , , , , , , )

#define NEXT_TAP                                                                                               \
    "ldp %[a2], %[a3], [%[next], #16]\n\t"                                                                     \
    "ldp %[a0], %[a1], [%[next]], #32\n\t"

#define ZERO(sum) "movi v" sum ".4s, #0\n\t"
#define ENTER                                                                                                  \
    ZERO("16") ZERO("17") ZERO("18") ZERO("19") ZERO("20") ZERO("21") ZERO("22") ZERO("23")                    \
    ZERO("24") ZERO("25") ZERO("26") ZERO("27") ZERO("28") ZERO("29") ZERO("30") ZERO("31")                    \
    NEXT_TAP                                                                                                   \
    "ldp q6, q7, [%[panel], #32]\n\t"                                                                          \
    "ldp q4, q5, [%[panel]], #128\n\t"                                                                         \
    "ldr q0, [%[a0]], #16\n\t"                                                                                 \
    "ldr q1, [%[a1]], #16\n\t"                                                                                 \
    "ldr q2, [%[a2]], #16\n\t"                                                                                 \
    "ldr q3, [%[a3]], #16\n\t"                                                                                 \
    "cbz %[left], 2f\n\t"

#define PAIRS(to, from) "addp v" to ".4s, v" to ".4s, v" from ".4s\n\t"
#define LEAVE                                                                                                  \
    "2:\n\t"                                                                                                   \
    "subs %[tap], %[tap], #1\n\t"                                                                              \
    "b.eq 3f\n\t"                                                                                              \
    NEXT_TAP                                                                                                   \
    "mov %[left], %[steps]\n\t"                                                                                \
    "b 1b\n"                                                                                                   \
    "3:\n\t"                                                                                                   \
    COLUMN("4", "16", "17", "18", "19")                                                                        \
    COLUMN("5", "20", "21", "22", "23")                                                                        \
    COLUMN("6", "24", "25", "26", "27")                                                                        \
    COLUMN("7", "28", "29", "30", "31")                                                                        \
    PAIRS("16", "20") PAIRS("17", "21") PAIRS("18", "22") PAIRS("19", "23")                                    \
    PAIRS("24", "28") PAIRS("25", "29") PAIRS("26", "30") PAIRS("27", "31")                                    \
    PAIRS("16", "24") PAIRS("17", "25") PAIRS("18", "26") PAIRS("19", "27")                                    \
    "str q16, [%[tile]]\n\t"                                                                                   \
    "str q17, [%[tile], #32]\n\t"                                                                              \
    "str q18, [%[tile], #64]\n\t"                                                                              \
    "str q19, [%[tile], #96]\n\t"

/* `left`: steps of this tap that are not loaded yet. */
#define TILE(loop)                                                                                             \
    for (int j = 0; j < 8; j += 4, b += 64, tile += 4) {                                                       \
        const void *const *next = rows;                                                                        \
        const int8_t *panel = b;                                                                               \
        ptrdiff_t steps = channels / 16, left = steps - 1, tap = taps;                                         \
        uint64_t a0, a1, a2, a3, x0, x1, x2, x3, y;                                                            \
        __asm__ volatile(ENTER loop LEAVE                                                                      \
                         : [next] "+&r"(next), [panel] "+&r"(panel), [left] "+&r"(left), [tap] "+&r"(tap),     \
                           [a0] "=&r"(a0), [a1] "=&r"(a1), [a2] "=&r"(a2), [a3] "=&r"(a3), [x0] "=&r"(x0),     \
                           [x1] "=&r"(x1), [x2] "=&r"(x2), [x3] "=&r"(x3), [y] "=&r"(y)                        \
                         : [steps] "r"(steps), [tile] "r"(tile)                                                \
                         : "memory", "cc", "v0", "v1", "v2", "v3", "v4", "v5", "v6", "v7", "v8", "v9", "v10",  \
                           "v11", "v16", "v17", "v18", "v19", "v20", "v21", "v22", "v23", "v24", "v25", "v26", \
                           "v27", "v28", "v29", "v30", "v31");                                                 \
    }

#endif
