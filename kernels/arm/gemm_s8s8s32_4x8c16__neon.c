// SPDX-License-Identifier: MIT
//
// The ARMv8.0 int8 tile for cores that order instructions themselves (Cortex-A57, A72): the fewest loads, of 128 bits.

#include "kernels/arm/gemm_s8s8s32_4x8c16.h"
#include "kernels/tiles.h"

#define LOAD(v, a) "ldr q" v ", [%[" a "]], #16\n\t"

void gemm_s8s8s32_4x8c16__neon(int taps, int channels, const void *const *rows, const int8_t *b, int32_t *tile)
{
    /* clang-format off */
    TILE(".p2align 4\n"
         "1:\n\t"
         COLUMN("4", "16", "17", "18", "19")
         COLUMN("5", "20", "21", "22", "23")
         "ldp q4, q5, [%[panel]], #128\n\t"
         COLUMN("6", "24", "25", "26", "27")
         "subs %[left], %[left], #1\n\t"
         COLUMN("7", "28", "29", "30", "31")
         LOAD("0", "a0") LOAD("1", "a1") LOAD("2", "a2") LOAD("3", "a3")
         "ldp q6, q7, [%[panel], #-96]\n\t"
         "b.ne 1b\n")
    /* clang-format on */
}
