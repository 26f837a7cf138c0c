// SPDX-License-Identifier: MIT

#include "config.h"

#include "kernels/kernels.h"

#include <string.h>

#include "kernels/cpu.h"
#include "kernels/tiles.h"

#ifdef HAVE_AVX512
static const struct gemm_s8 s8_6x64_vnni = {6, 64, 4, 4, A_U8, NULL, NULL, gemm_u8s8s8_6x64c4__avx512_vnni};
static const struct gemm_s8 s8_7x48_vnni = {7, 48, 4, 4, A_U8, NULL, NULL, gemm_u8s8s8_7x48c4__avx512_vnni}; /* 7x7 images */
static const struct gemm_s8 s8_14x32_vnni = {14, 32, 4, 4, A_U8, NULL, NULL, gemm_u8s8s8_14x32c4__avx512_vnni};
static const struct gemm_s8 s8_14x16_vnni = {14, 16, 4, 4, A_U8, NULL, NULL, gemm_u8s8s8_14x16c4__avx512_vnni};
static const struct gemm_s8 s8_1x64_vnni = {1, 64, 4, 4, A_U8, NULL, NULL, gemm_u8s8s8_1x64c4__avx512_vnni};
static const struct gemm_f32 f32_6x64_avx512 = {
    6, 64, NULL, NULL, NULL, {gemm_f32f32_6x64__avx512, gemm_f32f16_6x64__avx512, gemm_f32s8_6x64__avx512}, 0, 0};
static const struct gemm_f32 f32_7x48_avx512 = {
    7, 48, NULL, NULL, NULL, {gemm_f32f32_7x48__avx512, gemm_f32f16_7x48__avx512, gemm_f32s8_7x48__avx512}, 0, 0};
static const struct gemm_f32 f32_14x32_avx512 = {
    14, 32, NULL, NULL, NULL, {gemm_f32f32_14x32__avx512, gemm_f32f16_14x32__avx512, gemm_f32s8_14x32__avx512}, 0, 0};
static const struct gemm_f32 f32_14x16_avx512 = {
    14, 16, NULL, NULL, NULL, {gemm_f32f32_14x16__avx512, gemm_f32f16_14x16__avx512, gemm_f32s8_14x16__avx512}, 0, 0};
static const struct gemm_f32 f32_1x64_avx512 = {
    1, 64, NULL, NULL, NULL, {gemm_f32f32_1x64__avx512, gemm_f32f16_1x64__avx512, gemm_f32s8_1x64__avx512}, 0, 0};
static const struct outer_f32 outer_24x16_avx512 = {24, 16, outer_f32_24x16__avx512};
static const struct outer_f32 outer_16x16_avx512 = {16, 16, outer_f32_16x16__avx512};
static const struct outer_f32 outer_12x32_avx512 = {12, 32, outer_f32_12x32__avx512};
static const struct outer_f32 outer_8x32_avx512 = {8, 32, outer_f32_8x32__avx512};
static const struct outer_f32 outer_6x64_avx512 = {6, 64, outer_f32_6x64__avx512};
static const struct outer_f32 *const outer_avx512[] = {&outer_6x64_avx512, &outer_12x32_avx512, &outer_8x32_avx512,
                                                       &outer_24x16_avx512, &outer_16x16_avx512, NULL};
static const struct gemm_s16 s16_14x32_vnni = {14, 32, 2, 32, gemm_s16s16s32_14x32c2__avx512_vnni, store_s8__avx512};
static const struct gemm_s16 s16_14x16_vnni = {14, 16, 2, 32, gemm_s16s16s32_14x16c2__avx512_vnni, store_s8__avx512};
static const struct gemm_s16 *const s16_vnni[] = {&s16_14x32_vnni, &s16_14x16_vnni, NULL};
static const struct gemm_s8 *const s8_vnni[] = {&s8_6x64_vnni, &s8_7x48_vnni, &s8_14x32_vnni, &s8_14x16_vnni, &s8_1x64_vnni, NULL};
static const struct gemm_f32 *const f32_avx512[] = {&f32_14x32_avx512, &f32_6x64_avx512, &f32_7x48_avx512,
                                                    &f32_14x16_avx512, &f32_1x64_avx512, NULL};
#endif
#ifdef HAVE_AVX512_FP16
static const struct gemm_f32 f16_14x32_avx512 = {14, 32, NULL, NULL, NULL, {NULL, gemm_f16f16_14x32c2__avx512_fp16, NULL}, 2, 2};
static const struct gemm_f32 f16_6x64_avx512 = {6, 64, NULL, NULL, NULL, {NULL, gemm_f16f16_6x64c2__avx512_fp16, NULL}, 2, 2};
static const struct gemm_f32 f16_7x48_avx512 = {7, 48, NULL, NULL, NULL, {NULL, gemm_f16f16_7x48c2__avx512_fp16, NULL}, 2, 2};
static const struct gemm_f32 f16_14x16_avx512 = {14, 16, NULL, NULL, NULL, {NULL, gemm_f16f16_14x16c2__avx512_fp16, NULL}, 2, 2};
static const struct gemm_f32 f16_1x64_avx512 = {1, 64, NULL, NULL, NULL, {NULL, gemm_f16f16_1x64c2__avx512_fp16, NULL}, 2, 2};
static const struct gemm_f32 *const f16_avx512[] = {&f16_14x32_avx512, &f16_6x64_avx512, &f16_7x48_avx512,
                                                    &f16_14x16_avx512, &f16_1x64_avx512, NULL};
#endif
#ifdef HAVE_AVX2
static const struct gemm_s8 s8_6x16_avx2 = {6, 16, 2, 2, A_S16, gemm_s16s8s32_6x16c2__avx2, store_s8__avx2, NULL};
static const struct gemm_f32 f32_6x16_avx2 = {6,     16, gemm_f32f32_6x16__avx2, gemm_f32f16_6x16__avx2, gemm_f32s8_6x16__avx2,
                                              {NULL}, 0, 0};
static const struct outer_f32 outer_6x16_avx2 = {6, 16, outer_f32_6x16__avx2};
static const struct outer_f32 *const outer_avx2[] = {&outer_6x16_avx2, NULL};
static const struct gemm_s16 s16_6x16_avx2 = {6, 16, 2, 16, gemm_s16s16s32_6x16c2__avx2, store_s8__avx2};
static const struct gemm_s16 *const s16_avx2[] = {&s16_6x16_avx2, NULL};
static const struct gemm_s8 *const s8_avx2[] = {&s8_6x16_avx2, NULL};
static const struct gemm_f32 *const f32_avx2[] = {&f32_6x16_avx2, NULL};
#endif
#ifdef HAVE_AVX_VNNI
static const struct gemm_s8 s8_6x16_avx_vnni = {6, 16, 4, 4, A_U8, NULL, NULL, gemm_u8s8s8_6x16c4__avx_vnni};
static const struct gemm_s8 s8_1x64_avx_vnni = {1, 64, 4, 4, A_U8, NULL, NULL, gemm_u8s8s8_1x64c4__avx_vnni};
static const struct gemm_s8 *const s8_avx_vnni[] = {&s8_6x16_avx_vnni, &s8_1x64_avx_vnni, NULL};
#endif
#ifdef HAVE_NEON
static const struct gemm_s8 s8_4x8_neon = {4, 8, 16, 16, A_S8, gemm_s8s8s32_4x8c16__neon, store_s8__neon, NULL};
static const struct gemm_s8 s8_4x8_neon_a53 = {4, 8, 16, 16, A_S8, gemm_s8s8s32_4x8c16__neon_a53, store_s8__neon, NULL};
static const struct gemm_f32 f32_8x8_neon = {8, 8, gemm_f32f32_8x8__neon, gemm_f32f16_8x8__neon, gemm_f32s8_8x8__neon, {NULL}, 0, 0};
static const struct outer_f32 outer_8x8_neon = {8, 8, outer_f32_8x8__neon};
static const struct outer_f32 *const outer_neon[] = {&outer_8x8_neon, NULL};
static const struct gemm_s16 s16_8x8_neon = {8, 8, 1, 8, gemm_s16s16s32_8x8__neon, store_s8__neon};
static const struct gemm_s16 *const s16_neon[] = {&s16_8x8_neon, NULL};
static const struct gemm_s8 *const s8_neon[] = {&s8_4x8_neon, NULL};
static const struct gemm_s8 *const s8_neon_a53[] = {&s8_4x8_neon_a53, NULL};
static const struct gemm_f32 *const f32_neon[] = {&f32_8x8_neon, NULL};
#endif
#ifdef HAVE_NEON_HALF
static const struct gemm_f32 f16_8x16_neon_half = {8, 16, NULL, NULL, NULL, {NULL, gemm_f16f16_8x16__neon_half, NULL}, 8, 1};
static const struct gemm_f32 *const f16_neon_half[] = {&f16_8x16_neon_half, NULL};
#endif
#ifdef HAVE_NEON_DOT
static const struct gemm_s8 s8_5x16_neon_dot = {5, 16, 4, 4, A_S8, gemm_s8s8s32_5x16c4__neon_dot, store_s8__neon, NULL};
static const struct gemm_s8 s8_8x8_neon_dot = {8, 8, 4, 4, A_S8, gemm_s8s8s32_8x8c4__neon_dot, store_s8__neon, NULL};
static const struct gemm_s8 *const s8_neon_dot[] = {&s8_5x16_neon_dot, &s8_8x8_neon_dot, NULL};
#endif
#ifdef HAVE_NEON_I8MM
static const struct gemm_s8 s8_4x16_neon_i8mm = {4, 16, 8, 8, A_S8, gemm_s8s8s32_4x16c8__neon_i8mm, store_s8__neon, NULL};
static const struct gemm_s8 *const s8_neon_i8mm[] = {&s8_4x16_neon_i8mm, NULL};
#endif
static const struct gemm_s8 s8_4x8_ref = {4, 8, 4, 4, A_S8, gemm_s8s8s32_4x8c4__ref, store_s8__ref, NULL};
static const struct gemm_f32 f32_4x8_ref = {4, 8, gemm_f32f32_4x8__ref, gemm_f32f16_4x8__ref, gemm_f32s8_4x8__ref, {NULL}, 0, 0};
static const struct gemm_f32 f16_4x8_ref = {4, 8, NULL, gemm_f16f16_4x8__ref, NULL, {NULL}, 1, 1};
static const struct gemm_f32 f16_4x8c2_ref = {4, 8, NULL, gemm_f16f16_4x8c2__ref, NULL, {NULL}, 2, 2};
static const struct outer_f32 outer_4x4_ref = {4, 4, outer_f32_4x4__ref};
static const struct outer_f32 *const outer_ref[] = {&outer_4x4_ref, NULL};
static const struct gemm_s16 s16_4x8_ref = {4, 8, 1, 8, gemm_s16s16s32_4x8c1__ref, store_s8__ref};
static const struct gemm_s16 *const s16_ref[] = {&s16_4x8_ref, NULL};
static const struct gemm_s8 *const s8_ref[] = {&s8_4x8_ref, NULL};
static const struct gemm_f32 *const f32_ref[] = {&f32_4x8_ref, NULL};
static const struct gemm_f32 *const f16_ref[] = {&f16_4x8_ref, &f16_4x8c2_ref, NULL};

/* Best first. Every ARM core with a dot product has half arithmetic too; neon_half is for one without the dot product. */
const struct kernels kernels_table[] = {
#ifdef HAVE_AVX512_FP16
    {"avx512_fp16", CPU_AVX2 | CPU_AVX512_VNNI | CPU_AVX512_FP16, s8_vnni, f32_avx512, f16_avx512, &vector_ops__avx2,
     &winograd_ops__avx512, &channel_ops__avx512, outer_avx512, s16_vnni},
#endif
#ifdef HAVE_AVX512
    {"avx512_vnni", CPU_AVX2 | CPU_AVX512_VNNI, s8_vnni, f32_avx512, NULL, &vector_ops__avx2, &winograd_ops__avx512, &channel_ops__avx512, outer_avx512, s16_vnni},
#endif
#ifdef HAVE_AVX_VNNI
    {"avx_vnni", CPU_AVX2 | CPU_AVX_VNNI, s8_avx_vnni, f32_avx2, NULL, &vector_ops__avx2, &winograd_ops__avx2, &channel_ops__avx2, outer_avx2, NULL},
#endif
#ifdef HAVE_AVX2
    {"avx2", CPU_AVX2, s8_avx2, f32_avx2, NULL, &vector_ops__avx2, &winograd_ops__avx2, &channel_ops__avx2, outer_avx2, s16_avx2},
#endif
#ifdef HAVE_NEON_I8MM
    {"neon_i8mm", CPU_NEON | CPU_NEON_HALF | CPU_NEON_I8MM, s8_neon_i8mm, f32_neon, f16_neon_half, &vector_ops__neon,
     &winograd_ops__ref, &channel_ops__ref, outer_neon, NULL},
#endif
#ifdef HAVE_NEON_DOT
    {"neon_dot", CPU_NEON | CPU_NEON_HALF | CPU_NEON_DOT, s8_neon_dot, f32_neon, f16_neon_half, &vector_ops__neon,
     &winograd_ops__ref, &channel_ops__ref, outer_neon, NULL},
#endif
#ifdef HAVE_NEON_HALF
    {"neon_half", CPU_NEON | CPU_NEON_HALF, s8_neon, f32_neon, f16_neon_half, &vector_ops__neon, &winograd_ops__ref, &channel_ops__ref, outer_neon, s16_neon},
#endif
#ifdef HAVE_NEON
    {"neon_a53", CPU_NEON | CPU_CORTEX_A53, s8_neon_a53, f32_neon, NULL, &vector_ops__neon, &winograd_ops__ref, &channel_ops__ref, outer_neon, s16_neon},
    {"neon", CPU_NEON, s8_neon, f32_neon, NULL, &vector_ops__neon, &winograd_ops__ref, &channel_ops__ref, outer_neon, s16_neon},
#endif
    {"ref", 0, s8_ref, f32_ref, NULL, &vector_ops__ref, &winograd_ops__ref, &channel_ops__ref, outer_ref, s16_ref},       /* needs nothing, always there */
    {"ref_half", 0, s8_ref, f32_ref, f16_ref, &vector_ops__ref, &winograd_ops__ref, &channel_ops__ref, outer_ref, NULL}, /* how half arithmetic rounds, on any machine */
    {NULL, 0, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL}};

const struct kernels *kernels_find(const char *name)
{
    for (const struct kernels *k = kernels_table; k->name; k++)
        if (strcmp(k->name, name) == 0)
            return k;
    return NULL;
}

const struct kernels *kernels_pick(unsigned have, const char *want)
{
    if (want && strcmp(want, "auto") == 0)
        want = NULL;
    for (const struct kernels *k = kernels_table; k->name; k++)
        if ((k->need & ~have) == 0 && (!want || strcmp(k->name, want) == 0))
            return k;
    return NULL;
}
