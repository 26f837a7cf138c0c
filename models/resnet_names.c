// SPDX-License-Identifier: MIT

#include "models/resnet_names.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int starts(const char *text, const char *start)
{
    return strncmp(text, start, strlen(start)) == 0;
}

/* ---- prefixes ---- */

/* What is left of a name without the prefixes that wrappers leave; repeated ones are dropped too. */
static const char *unwrapped(const char *name)
{
    static const char *const known[] = {"module.", "state_dict.", "state_dict_ema.", "model.", "_orig_mod."};
    for (size_t k = 0; k < sizeof known / sizeof *known;) {
        if (starts(name, known[k])) {
            name += strlen(known[k]);
            k = 0;
        } else {
            k++;
        }
    }
    return name;
}

static int find_prefix(struct resnet_names *n, struct err *e)
{
    static const char hugging_face[] = "embedder.embedder.convolution.weight";
    for (int i = 0; i < tensors_count(n->t); i++) {
        const char *name = tensors_get(n->t, i)->name, *rest = unwrapped(name);
        const int plain = strcmp(rest, "conv1.weight") == 0 || strcmp(rest, "conv1.0.weight") == 0;
        n->hugging_face = strcmp(starts(rest, "resnet.") ? rest + 7 : rest, hugging_face) == 0;
        if ((plain || n->hugging_face) && (size_t)(rest - name) < sizeof n->prefix) {
            memcpy(n->prefix, name, (size_t)(rest - name));
            return 0;
        }
    }
    for (int i = 0; i < tensors_count(n->t); i++)
        if (strcmp(unwrapped(tensors_get(n->t, i)->name), "stem.conv.weight") == 0)
            return err_set(e, ERR_UNSUPPORTED,
                           "tensor %s: a pre-activation ResNet (v2) of timm or another family; of those only ONNX "
                           "files are read",
                           tensors_get(n->t, i)->name);
    return err_set(e, ERR_UNSUPPORTED,
                   "no tensor conv1.weight: this is not a ResNet with torchvision, timm, Hugging Face or CIFAR names");
}

/* ---- parts that would give other numbers ---- */

static int refuse_parts(const struct tensors *t, struct err *e)
{
    static const struct {
        const char *in_name, *part;
    } known[] = {
        /* the more special first */
        {".se.conv.weight", "efficient channel attention"},
        {".se.", "squeeze-excite"},
        {".se_module.", "squeeze-excite"},
        {".aa.", "anti-aliasing (blur pool)"},
        {".filt", "anti-aliasing (blur pool)"},
        {"attnpool.", "attention pooling"},
        {"attn_pool.", "attention pooling"},
        {".attn.", "attention"},
        {".conv2.conv.", "split attention"},
        {".IN.", "instance-batch norm"},
        {".conv2_offset.", "deformable convolution"},
        {"maxpool.", "a convolution in place of the stem's max-pool"},
        {".weight_orig", "pruning by masks (torch.nn.utils.prune.remove makes it permanent)"},
        {".weight_v", "weight norm"},
        {".parametrizations.", "parametrised weights"},
        {"weight_fake_quant.", "quantisation-aware training (export it as ONNX, that is read with its scales)"},
        {"activation_post_process.", "quantisation-aware training (export it as ONNX, that is read with its scales)"},
        {"_packed_params", "PyTorch's own quantisation (export it as ONNX, that is read with its scales)"},
    };
    for (int i = 0; i < tensors_count(t); i++)
        for (size_t k = 0; k < sizeof known / sizeof *known; k++)
            if (strstr(tensors_get(t, i)->name, known[k].in_name))
                return err_set(e, ERR_UNSUPPORTED, "tensor %s belongs to a part that this version does not know: %s",
                               tensors_get(t, i)->name, known[k].part);
    return 0;
}

/* ---- names ---- */

/* encoder.stages.S.layers.B... -> layer(S+1).B... */
static void from_hugging_face(const char *name, char *out, size_t size)
{
    unsigned stage, block, conv;
    int at = 0, more = 0;
    if (starts(name, "resnet."))
        name += 7;
    if (starts(name, "embedder.embedder.convolution.")) {
        snprintf(out, size, "conv1.%s", name + 30);
    } else if (starts(name, "embedder.embedder.normalization.")) {
        snprintf(out, size, "bn1.%s", name + 32);
    } else if (sscanf(name, "encoder.stages.%3u.layers.%4u.%n", &stage, &block, &at) == 2 && at) {
        const char *rest = name + at;
        if (sscanf(rest, "layer.%3u.%n", &conv, &more) == 1 && more) {
            rest += more;
            if (starts(rest, "convolution."))
                snprintf(out, size, "layer%u.%u.conv%u.%s", stage + 1, block, conv + 1, rest + 12);
            else if (starts(rest, "normalization."))
                snprintf(out, size, "layer%u.%u.bn%u.%s", stage + 1, block, conv + 1, rest + 14);
        } else if (starts(rest, "shortcut.convolution.")) {
            snprintf(out, size, "layer%u.%u.downsample.0.%s", stage + 1, block, rest + 21);
        } else if (starts(rest, "shortcut.normalization.")) {
            snprintf(out, size, "layer%u.%u.downsample.1.%s", stage + 1, block, rest + 23);
        }
    }
}

static void from_repositories(const char *name, char *out, size_t size)
{
    const char *shortcut = strstr(name, ".shortcut.");
    if (starts(name, "linear."))
        snprintf(out, size, "fc.%s", name + 7);
    else if (shortcut)
        snprintf(out, size, "%.*s.downsample.%s", (int)(shortcut - name), name, shortcut + 10);
}

/* "fc.1." or "classifier.1." -> 1: a head that is a sequence of dropout, flattening and one dense layer. -1: another name. */
static int head_position(const char *name, const char **leaf)
{
    unsigned position;
    int at = 0;
    if ((sscanf(name, "fc.%3u.%n", &position, &at) != 1 || !at) &&
        (sscanf(name, "classifier.%3u.%n", &position, &at) != 1 || !at))
        return -1;
    *leaf = name + at;
    return (int)position;
}

static int compare(const void *a, const void *b)
{
    return strcmp(((const struct resnet_name *)a)->name, ((const struct resnet_name *)b)->name);
}

int resnet_names_read(const struct tensors *t, struct resnet_names *out, struct err *e)
{
    struct resnet_names n = {.t = t};
    const int count = tensors_count(t);
    if (find_prefix(&n, e) < 0 || refuse_parts(t, e) < 0)
        return -1;
    n.list = malloc(((size_t)count + 1) * sizeof *n.list);
    if (!n.list)
        return err_set(e, ERR_MEMORY, "no memory for the names of %d tensors", count);
    const size_t prefix = strlen(n.prefix);
    for (int i = 0; i < count; i++) {
        const char *name = tensors_get(t, i)->name, *leaf;
        if (!starts(name, n.prefix) || strlen(name) >= RESNET_NAME_MAX)
            continue;
        struct resnet_name *to = &n.list[n.count++];
        to->tensor = i;
        name += prefix;
        snprintf(to->name, sizeof to->name, "%s", name);
        if (head_position(name, &leaf) >= 0)
            snprintf(to->name, sizeof to->name, "fc.%s", leaf);
        else if (n.hugging_face)
            from_hugging_face(name, to->name, sizeof to->name);
        else
            from_repositories(name, to->name, sizeof to->name);
    }
    qsort(n.list, (size_t)n.count, sizeof *n.list, compare);
    for (int i = 1; i < n.count; i++)
        if (compare(&n.list[i - 1], &n.list[i]) == 0) {
            err_set(e, ERR_UNSUPPORTED,
                    "tensors %s and %s have the same part in a ResNet (%s): this version knows networks with one",
                    tensors_get(t, n.list[i - 1].tensor)->name, tensors_get(t, n.list[i].tensor)->name, n.list[i].name);
            resnet_names_free(&n);
            return -1;
        }
    *out = n;
    return 0;
}

void resnet_names_free(struct resnet_names *n)
{
    free(n->list);
    n->list = NULL;
    n->count = 0;
}

static int find(const void *name, const void *entry)
{
    return strcmp(name, ((const struct resnet_name *)entry)->name);
}

int resnet_names_find(const struct resnet_names *n, const char *name)
{
    const struct resnet_name *found = bsearch(name, n->list, (size_t)n->count, sizeof *n->list, find);
    return found ? found->tensor : -1;
}

int resnet_names_missing(const struct resnet_names *n, const char *name, struct err *e)
{
    return n->hugging_face ? err_set(e, ERR_INPUT, "checkpoint has no tensor for %s (torchvision's name of it)", name)
                           : err_set(e, ERR_INPUT, "checkpoint has no tensor %s%s", n->prefix, name);
}
