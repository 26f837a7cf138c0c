// SPDX-License-Identifier: MIT
//
// kernels.h - the table of implementations, best first, and the choice of one row.
//
// A row is one instruction set, or its order for one core: inner loops for every type. Start-up, tests, benchmarks, log and
// metrics all walk this table. To add one: a tile file under x86/ or arm/, its prototype in tiles.h, a row in table.c, a library
// in Makefile.am.

#ifndef KERNELS_KERNELS_H
#define KERNELS_KERNELS_H

struct gemm_s8;
struct gemm_s16;
struct gemm_f32;
struct vector_ops;
struct winograd_ops;
struct channel_ops;
struct outer_f32;

struct kernels {
    const char *name;           /* what users write in `kernels = NAME`; NULL ends the table */
    unsigned need;              /* enum cpu_feature bits without which it must not run */
    const struct gemm_s8 *const *s8;   /* int8 x int8: widths of tile, preferred first, NULL ends */
    const struct gemm_f32 *const *f32; /* float x (float, half or int8 weights), likewise */
    const struct gemm_f32 *const *f16; /* half x half in half arithmetic, likewise; NULL: f32 computes fp16 too */
    const struct vector_ops *ops;
    const struct winograd_ops *winograd;
    const struct channel_ops *channels; /* of training, as is: */
    const struct outer_f32 *const *outer; /* sums of outer products, widths of tile, NULL ends */
    const struct gemm_s16 *const *s16; /* int16 x int16, for Winograd in int8; NULL where the direct way is as fast */
};

extern const struct kernels kernels_table[];

/* want: a row's name, or NULL or "auto" for the best that `have` allows. NULL back: unknown name, or one that this machine
   cannot run; kernels_find tells which. */
const struct kernels *kernels_pick(unsigned have, const char *want);

/* The row of that name whatever the machine can do, or NULL. */
const struct kernels *kernels_find(const char *name);

#endif
