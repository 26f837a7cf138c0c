// SPDX-License-Identifier: MIT
//
// cpu.h - what this machine can execute, as bits. The only place that asks the machine.

#ifndef KERNELS_CPU_H
#define KERNELS_CPU_H

enum cpu_feature {
    CPU_AVX2 = 1 << 0, /* with FMA and F16C: no CPU has the first without the others */
    CPU_AVX512_VNNI = 1 << 1,
    CPU_AVX_VNNI = 1 << 2, /* the same in the encoding of AVX, which CPUs without AVX-512 have */
    CPU_AVX512_FP16 = 1 << 3,
    CPU_NEON = 1 << 8,
    CPU_NEON_DOT = 1 << 9,
    CPU_NEON_HALF = 1 << 10, /* half arithmetic */
    CPU_NEON_I8MM = 1 << 11,
    CPU_CORTEX_A53 = 1 << 12 /* the core that started this program; not an instruction, but an order of them */
};

/* The set of enum cpu_feature bits of this machine, operating system included. Cannot fail. */
unsigned cpu_features(void);

#endif
