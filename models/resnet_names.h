// SPDX-License-Identifier: MIT
//
// resnet_names.h - the tensor names that others give a ResNet, as torchvision would have named them.
//
// torchvision and timm: conv1, bn1, layer1.0.conv1 ... fc. CIFAR repositories: linear for fc, shortcut for downsample. Hugging
// Face: resnet.encoder.stages.0.layers.0.layer.0.convolution for layer1.0.conv1, and so on. Wrappers' prefixes are dropped.

#ifndef MODELS_RESNET_NAMES_H
#define MODELS_RESNET_NAMES_H

#include "models/checkpoint/tensors.h"

#define RESNET_NAME_MAX 96

struct resnet_name {
    char name[RESNET_NAME_MAX]; /* torchvision's */
    int tensor;                 /* index */
};

struct resnet_names {
    const struct tensors *t;  /* borrowed */
    struct resnet_name *list; /* sorted by name; a tensor whose name is too long for the family is not in it */
    int count;
    char prefix[64]; /* what all names start with */
    int hugging_face;
};

/* ERR_UNSUPPORTED when this is no ResNet, or one with parts that are not supported: the tensor and the part are named. */
int resnet_names_read(const struct tensors *t, struct resnet_names *out, struct err *e);
void resnet_names_free(struct resnet_names *n);

/* The tensor's index, -1 when there is none. */
int resnet_names_find(const struct resnet_names *n, const char *name);

/* Sets the error that says which tensor is missing, in the checkpoint's own way of naming; -1. */
int resnet_names_missing(const struct resnet_names *n, const char *name, struct err *e);

#endif
