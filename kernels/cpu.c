// SPDX-License-Identifier: MIT

#include "config.h"

#include "kernels/cpu.h"

#if defined(__aarch64__) && defined(__linux__)
#include <sys/auxv.h>
/* Bits of the kernel's interface (Linux, asm/hwcap.h), spelled out because older headers lack the newer ones. */
#define HWCAP_ASIMD_BIT 1
#define HWCAP_FPHP_BIT 9
#define HWCAP_ASIMDHP_BIT 10
#define HWCAP_CPUID_BIT 11
#define HWCAP_ASIMDDP_BIT 20
#define HWCAP2_I8MM_BIT 13

/* Implementer and part of the core that runs this. Where cores differ (big.LITTLE), either answer is good: the A53's order costs
   the others next to nothing. */
static int is_cortex_a53(void)
{
    unsigned long midr;
    __asm__("mrs %0, midr_el1" : "=r"(midr)); /* trapped and answered by a system that sets HWCAP_CPUID */
    return (midr >> 24 & 0xff) == 0x41 && (midr >> 4 & 0xfff) == 0xd03;
}
#endif

unsigned cpu_features(void)
{
    unsigned have = 0;
#if defined(__x86_64__)
    /* GCC's runtime also asks whether the system saves the wide registers. */
    __builtin_cpu_init();
#ifdef HAVE_AVX2 /* some compilers do not know these names */
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c"))
        have |= CPU_AVX2;
#endif
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
        __builtin_cpu_supports("avx512vnni"))
        have |= CPU_AVX512_VNNI;
#ifdef HAVE_AVX_VNNI
    if (__builtin_cpu_supports("avxvnni"))
        have |= CPU_AVX_VNNI;
#endif
#ifdef HAVE_AVX512_FP16
    if (__builtin_cpu_supports("avx512fp16"))
        have |= CPU_AVX512_FP16;
#endif
#elif defined(__aarch64__) && defined(__linux__)
    unsigned long cap = getauxval(AT_HWCAP), cap2 = getauxval(AT_HWCAP2);
    if (cap >> HWCAP_ASIMD_BIT & 1)
        have |= CPU_NEON;
    if (cap >> HWCAP_ASIMDDP_BIT & 1)
        have |= CPU_NEON_DOT;
    if (cap >> HWCAP_FPHP_BIT & cap >> HWCAP_ASIMDHP_BIT & 1)
        have |= CPU_NEON_HALF;
    if (cap2 >> HWCAP2_I8MM_BIT & 1)
        have |= CPU_NEON_I8MM;
    if (cap >> HWCAP_CPUID_BIT & 1 && is_cortex_a53())
        have |= CPU_CORTEX_A53;
#endif
    return have;
}
