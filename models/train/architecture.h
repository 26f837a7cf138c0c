// SPDX-License-Identifier: MIT
//
// architecture.h - the networks that can be trained from nothing, by name.
//
//   resnet8                     MLPerf Tiny's: three stages of one block, 16 to 64 channels, projections, TensorFlow's SAME
//   padding resnet20, 32, 44, 56, 110   He et al. 2015, section 4.2: three stages, 16 to 64 channels, option-A shortcuts
//   resnet18, 34, 50            He et al. 2015, table 1: four stages, 64 to 512 channels (50: bottlenecks with the stride on the
//                               3x3), projections. Inputs below ARCHITECTURE_SMALL pixels get a 3x3 stem without
//                               stride and pooling in place of 7x7 and pooling

#ifndef MODELS_TRAIN_ARCHITECTURE_H
#define MODELS_TRAIN_ARCHITECTURE_H

#include "models/graph.h"

#define ARCHITECTURE_SMALL 96

/* *out: checked, nodes named as resnet_from_tensors does; ended with graph_free. ERR_INPUT names the architectures there are. On
   failure *out is untouched. */
int architecture_make(const char *name, int width, int height, int classes, struct graph *out, struct err *e);

#endif
