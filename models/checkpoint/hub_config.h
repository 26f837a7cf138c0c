// SPDX-License-Identifier: MIT
//
// hub_config.h - config.json beside model.safetensors or pytorch_model.bin, as the Hugging Face hub and timm lay them out: what
// tensors cannot tell.
//
// timm: architecture, pretrained_cfg (input_size, crop_pct, interpolation, mean, std). transformers: model_type resnet with
// hidden_act, downsample_in_bottleneck, downsample_in_first_stage, id2label.

#ifndef MODELS_CHECKPOINT_HUB_CONFIG_H
#define MODELS_CHECKPOINT_HUB_CONFIG_H

#include "models/preprocess.h"

#define HUB_CONFIG_MAX (4 << 20) /* bytes */

struct hub_config {
    char architecture[64]; /* timm's name; "" when it is not said */
    int first_stride;      /* a bottleneck's stride lies on its first 1x1 */
    int has_preprocess;
    struct preprocess preprocess;
    char **labels; /* label_count, or NULL */
    int label_count;
};

/* Empty when checkpoint is called otherwise, or config.json is absent or says nothing of all this. ERR_UNSUPPORTED for a network
   whose tensors look like a plain ResNet's and whose numbers differ; ERR_INPUT when the file is not JSON. Ends with
   hub_config_free. */
int hub_config_read(const char *checkpoint, struct hub_config *out, struct err *e);
void hub_config_free(struct hub_config *c);

#endif
