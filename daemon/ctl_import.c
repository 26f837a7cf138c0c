// SPDX-License-Identifier: MIT
//
// ctl_import.c - a checkpoint as others wrote it -> the model file of the precision that it holds.

#include "config.h"

#include "daemon/ctl.h"

#include <errno.h>
#include <fcntl.h>
#include <nettle/sha2.h>
#include <pthreadpool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "models/checkpoint/checkpoint.h"
#include "models/file.h"

struct options {
    const char *output, *name, *labels, *preprocess, *arch;
    int json;
};

static const struct ctl_option options[] = {
    {"output", 'o', CTL_TEXT, offsetof(struct options, output), 0, 0, "DIR|FILE",
     "where to write: FILE.safetensors, or fp32.safetensors (int8 from a quantised one) in DIR"},
    {"name", 0, CTL_TEXT, offsetof(struct options, name), 0, 0, "N", "the model's name (default: from the output's name)"},
    {"labels", 0, CTL_TEXT, offsetof(struct options, labels), 0, 0, "FILE", "names of the classes, one per line or a JSON array"},
    {"preprocess", 0, CTL_TEXT, offsetof(struct options, preprocess), 0, 0, "P",
     "imagenet, cifar10 or FILE.json (default: imagenet for a 7x7 or deep stem, else cifar10)"},
    {"arch", 0, CTL_TEXT, offsetof(struct options, arch), 0, 0, "NAME",
     "what the checkpoint has to be, e.g. resnet50 or resnet50-v1"},
    {"json", 0, CTL_FLAG, offsetof(struct options, json), 0, 0, NULL, "print the result as JSON"},
    {0},
};

static const struct ctl_usage usage = {
    "import CHECKPOINT -o DIR|FILE [--name N] [--labels FILE] [--preprocess P] [--arch NAME] [--json]",
    "Reads a ResNet from a checkpoint (safetensors, PyTorch's .pth or ONNX), folds its batch norms and writes the model file.",
    options, 1, 1};

/* The user's, the checkpoint's own, or, for ten classes of pictures prepared as CIFAR-10's are, CIFAR-10's. */
static int set_labels(const struct options *o, struct network *n, struct err *e)
{
    if (o->labels)
        return network_labels_from_file(n, o->labels, e);
    if (n->labels)
        return 0;
    struct preprocess cifar10;
    int classes = n->graph.nodes[n->graph.output].c, count = (int)(sizeof dataset_cifar10_names / sizeof *dataset_cifar10_names);
    if (preprocess_preset("cifar10", &cifar10, e) != 0)
        return -1;
    if (classes != count || !preprocess_equal(&n->preprocess, &cifar10))
        return 0;
    n->labels = calloc((size_t)count, sizeof *n->labels);
    if (!n->labels)
        return err_set(e, ERR_MEMORY, "no memory for the labels");
    n->label_count = count;
    for (int i = 0; i < count; i++)
        if (!(n->labels[i] = strdup(dataset_cifar10_names[i])))
            return err_set(e, ERR_MEMORY, "no memory for the labels");
    return 0;
}

/* Named by the user, else by a model directory, else by a file that is not just called after its precision, else by the source.
 */
static int set_name(const struct options *o, const char *source, struct network *n, struct err *e)
{
    enum precision ignored;
    if (o->name) {
        if (name_check(o->name, e) != 0)
            return -1;
        snprintf(n->name, sizeof n->name, "%s", o->name);
        return 0;
    }
    char name[NETWORK_NAME_MAX];
    if (!ctl_name_from_path(o->output, name) || (ctl_output_is_file(o->output) && precision_parse(name, &ignored, e) == 0))
        if (!ctl_name_from_path(source, name))
            snprintf(name, sizeof name, "model");
    snprintf(n->name, sizeof n->name, "%s", name);
    return name_check(n->name, e);
}

static int sha256_of_file(const char *path, char hex[2 * SHA256_DIGEST_SIZE + 1], struct err *e)
{
    uint8_t buffer[65536], digest[SHA256_DIGEST_SIZE];
    struct sha256_ctx sha;
    sha256_init(&sha);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = -1;
    if (fd >= 0) {
        while ((n = read(fd, buffer, sizeof buffer)) > 0)
            sha256_update(&sha, (size_t)n, buffer);
    }
    int saved = errno;
    if (fd >= 0)
        close(fd);
    if (n < 0)
        return err_set(e, ERR_IO, "cannot read %s: %s", path, strerror(saved));
    sha256_digest(&sha, sizeof digest, digest);
    for (int i = 0; i < SHA256_DIGEST_SIZE; i++)
        snprintf(hex + 2 * i, 3, "%02x", digest[i]);
    return 0;
}

/* No date and no path: the same source gives the same file on every machine. */
static int set_provenance(const char *source, const char *architecture, struct network *n, struct err *e)
{
    char hex[2 * SHA256_DIGEST_SIZE + 1];
    if (sha256_of_file(source, hex, e) != 0)
        return -1;
    const char *slash = strrchr(source, '/');
    cJSON *o = cJSON_CreateObject();
    int bad = ctl_put_text(o, "source", slash ? slash + 1 : source);
    bad |= ctl_put_text(o, "source_sha256", hex);
    bad |= ctl_put_text(o, "architecture", architecture);
    bad |= ctl_put_text(o, "tool", "resnetctl " PACKAGE_VERSION);
    char *text = bad ? NULL : cJSON_PrintUnformatted(o);
    cJSON_Delete(o);
    free(n->provenance);
    n->provenance = text;
    return text ? 0 : err_set(e, ERR_MEMORY, "no memory for the provenance");
}

/* architecture becomes what the shapes say, which is what an unnamed network is called at first. */
static int import(const struct options *o, const char *source, struct network *n, char architecture[NETWORK_NAME_MAX],
                  struct err *e)
{
    struct preprocess preprocess;
    struct import_options wanted = {.arch = o->arch};
    if (o->preprocess) {
        if (ctl_preprocess(o->preprocess, &preprocess, e) != 0)
            return -1;
        wanted.preprocess = &preprocess;
    }
    if (checkpoint_import(source, &wanted, n, e) != 0 || set_labels(o, n, e) != 0)
        return -1;
    snprintf(architecture, NETWORK_NAME_MAX, "%s", n->name);
    return set_name(o, source, n, e) == 0 && set_provenance(source, architecture, n, e) == 0 ? 0 : -1;
}

static int report(const struct network *n, const char *architecture, const char *path, int json)
{
    const struct graph *g = &n->graph;
    long long parameters = 0, bytes = ctl_file_bytes(path);
    int layers = 0;
    for (int i = 0; i < g->count; i++)
        if (node_has_weights(&g->nodes[i])) {
            layers++;
            parameters += node_weights(g, i) + g->nodes[i].c;
        }
    const struct node *in = &g->nodes[0], *out = &g->nodes[g->output];
    if (json) {
        cJSON *o = cJSON_CreateObject();
        int bad = ctl_put_text(o, "file", path);
        bad |= ctl_put_text(o, "name", n->name);
        bad |= ctl_put_text(o, "architecture", architecture);
        bad |= ctl_put_number(o, "width", in->w, 9);
        bad |= ctl_put_number(o, "height", in->h, 9);
        bad |= ctl_put_number(o, "classes", out->c, 9);
        bad |= ctl_put_number(o, "labels", n->label_count, 9);
        bad |= ctl_put_number(o, "layers", layers, 9);
        bad |= ctl_put_number(o, "parameters", (double)parameters, 17);
        bad |= ctl_put_number(o, "macs", (double)graph_macs(g), 17);
        bad |= ctl_put_number(o, "file_bytes", (double)bytes, 17);
        return ctl_print_json(o, bad);
    }
    char size[16];
    ctl_size((double)bytes, size);
    printf("%s: a %s named %s, %s\n", path, architecture, n->name, size);
    printf("%dx%d pixels, %d classes (%s), %d layers with weights, %.3f M parameters, %.3f GMAC per image\n", in->w, in->h,
           out->c, n->label_count ? "with labels" : "without labels", layers, (double)parameters / 1e6,
           (double)graph_macs(g) / 1e9);
    return CTL_DONE;
}

int ctl_import(int argc, char **argv)
{
    struct options o = {0};
    int status, first = ctl_parse(&usage, argc, argv, &o, &status);
    if (first < 0)
        return status;
    if (!o.output)
        return ctl_wrong(&usage, "-o says where to write and is missing");

    struct network n = {0};
    struct err e;
    struct pthreadpool *pool = NULL;
    char *path = NULL, architecture[NETWORK_NAME_MAX] = "";
    int threads = 0;
    status = CTL_FAILED;
    if (import(&o, argv[first], &n, architecture, &e) != 0 || !(path = ctl_output_path(o.output, n.precision, &e)) ||
        ctl_pool(&threads, &pool, &e) != 0 || ctl_write_model(path, &n, pool, &e) != 0)
        ctl_fail(&e);
    else
        status = report(&n, architecture, path, o.json);
    if (pool)
        pthreadpool_destroy(pool);
    free(path);
    network_free(&n);
    return status;
}
