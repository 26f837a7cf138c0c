// SPDX-License-Identifier: MIT
//
// analyze.h - what the static analysers, which read one file at a time, cannot see of the others; tests/analyze.sh puts it in front
// of each. A function that tells an error returns -1, so that a caller who asks whether it did goes no further.

#include "models/err.h"

#define err_set(...) ({ (void)err_set(__VA_ARGS__); -1; })
#define err_prefix(...) ({ (void)err_prefix(__VA_ARGS__); -1; })

#ifdef ANALYZE_ONNX /* the files of the ONNX reader but the one that defines these */
#include "models/checkpoint/onnx_graph.h"
#define onnx_fail(...) ({ (void)onnx_fail(__VA_ARGS__); -1; })
#define onnx_blame(x) ({ (void)onnx_blame(x); -1; })
#endif

#ifdef __clang__ /* which does not know the newest features by name */
int analysed_cpu_supports(const char *feature);
#define __builtin_cpu_supports(feature) analysed_cpu_supports(feature)
#endif
