// SPDX-License-Identifier: MIT
//
// resnet.h - the ResNet family from a checkpoint's tensor names and shapes alone.
//
// Known: torchvision, timm and Hugging Face names (ResNet-18 to 152, wide, ResNeXt; timm's deep stems c, d, s, t and its averaging
// projections), CIFAR ResNets (6n+2) with option-A or option-B shortcuts, the ResNet-8 of MLPerf Tiny (conv biases, TensorFlow's SAME
// padding); see resnet_names.h. Strides are not in a checkpoint: stage 2, 3, 4 start with stride 2, on the 3x3 convolution of a
// bottleneck (v1.5) unless `arch` says v1. Activations are not either: ReLU.

#ifndef MODELS_RESNET_H
#define MODELS_RESNET_H

#include "models/checkpoint/tensors.h"
#include "models/network.h"

/* Builds the fp32 network: graph, folded weights; sets name to the architecture's when it is empty. out->preprocess must be set: it
   gives the input's size. arch: NULL, or the name that the shapes must give ("resnet50", "resnext50_32x4d" ...); "-v1" behind it, or alone,
   puts the stride of bottlenecks on their first 1x1. Whatever tensor is missing, left over or misshapen is named. On failure *out
   keeps what it had. */
int resnet_from_tensors(const struct tensors *t, const char *arch, struct network *out, struct err *e);

/* ERR_UNSUPPORTED when a network of that name has the tensors of a plain ResNet and other numbers: blur pool has no tensors. */
int resnet_check_name(const char *name, struct err *e);

/* The preset that a checkpoint with such tensors was most likely trained with: "imagenet" or "cifar10". */
const char *resnet_preset(const struct tensors *t);

#endif
