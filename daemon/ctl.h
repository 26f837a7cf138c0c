// SPDX-License-Identifier: MIT
//
// ctl.h - what the subcommands of resnetctl share: options as data, exit statuses, models, images and JSON output.
//
// Each subcommand is one function in one ctl_*.c file and one row of the table in resnetctl.c. It gets its own argv (argv[0] is
// its name), prints results to stdout, everything else to stderr, and returns an exit status.

#ifndef DAEMON_CTL_H
#define DAEMON_CTL_H

#include <cjson/cJSON.h>
#include <stddef.h>
#include <stdint.h>

#include "daemon/image.h"
#include "models/dataset.h"
#include "models/err.h"
#include "models/session.h"

enum { CTL_DONE = 0, CTL_FAILED = 1, CTL_USAGE = 2 };

int ctl_import(int argc, char **argv);
int ctl_export(int argc, char **argv);
int ctl_train(int argc, char **argv);
int ctl_quantize(int argc, char **argv);
int ctl_eval(int argc, char **argv);
int ctl_bench(int argc, char **argv);
int ctl_run(int argc, char **argv);
int ctl_inspect(int argc, char **argv);
int ctl_status(int argc, char **argv);
int ctl_top(int argc, char **argv);
int ctl_predict(int argc, char **argv);
int ctl_precision(int argc, char **argv);
int ctl_reload(int argc, char **argv);
int ctl_drain(int argc, char **argv);

/* ---- options (ctl_options.c): one table per command parses, checks and documents them ---- */

enum ctl_kind {
    CTL_FLAG,   /* int, set to 1 */
    CTL_INT,    /* int in min..max */
    CTL_NUMBER, /* double in min..max */
    CTL_TEXT    /* const char *, borrowed from argv */
};

struct ctl_option {
    const char *name; /* of the long form, without dashes; NULL ends the table */
    char letter;      /* of the short form, 0: none */
    enum ctl_kind kind;
    size_t offset;    /* of the field in the command's own struct, which holds the defaults before parsing */
    double min, max;
    const char *argument; /* its name in the help; NULL for a flag */
    const char *help;
};

struct ctl_usage {
    const char *synopsis; /* starts with the command's name */
    const char *about;
    const struct ctl_option *options;
    int operands_min, operands_max; /* -1: no limit */
};

/* Fills values; adds --help. Returns the index of the first operand, operands being last in argv; -1: *status is the exit status,
   help or error has been printed. */
int ctl_parse(const struct ctl_usage *u, int argc, char **argv, void *values, int *status);

/* Prints what is wrong and where to look; returns CTL_USAGE. */
int ctl_wrong(const struct ctl_usage *u, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* Prints the error; returns CTL_FAILED. */
int ctl_fail(const struct err *e);

/* ---- models and machines (ctl_models.c) ---- */

/* Model files that the arguments name: a file stands for itself, a directory for every precision file in it, in the order of
   enum precision. */
struct ctl_files {
    char **paths;
    int count;
};
int ctl_files_find(char *const *args, int count, struct ctl_files *out, struct err *e);
void ctl_files_free(struct ctl_files *f);

/* The file that -o names: out itself when it ends in .safetensors, else out/<precision>.safetensors in a directory made when
   missing. To be freed by the caller; NULL with e set. */
char *ctl_output_path(const char *out, enum precision p, struct err *e);
int ctl_output_is_file(const char *out);

/* The row of the kernel table that --kernels asks for (NULL: the best). The error tells an unknown name from an impossible one. */
int ctl_kernels(const char *name, const struct kernels **out, struct err *e);

/* CPUs that this process may use. */
int ctl_cpus(void);

/* A pool of that many threads (0: ctl_cpus), *out NULL for one thread. *threads becomes the number. */
int ctl_pool(int *threads, struct pthreadpool **out, struct err *e);

/* Gives n its self-test, computed on the threads of pool (NULL: this one), and writes it. */
int ctl_write_model(const char *path, struct network *n, struct pthreadpool *pool, struct err *e);

/* One model with a session, ready to run. Opened with batch 0 it has no session, for a caller that makes its own. */
struct ctl_model {
    struct model *model;
    struct session *session;
    const struct network *network; /* borrowed from model */
    int classes, width, height;
    double load_ms;                /* to read, check, pack and plan; 0 when made from memory */
};
int ctl_model_open(const char *path, const struct kernels *k, int batch, struct pthreadpool *pool, struct ctl_model *out,
                   struct err *e);
int ctl_model_make(const struct network *n, const struct kernels *k, struct pthreadpool *pool, struct ctl_model *out, struct err *e);
void ctl_model_close(struct ctl_model *m); /* an empty one is fine */

/* ctl_layers.c: where the time of a model goes, step by step, as a table or (NULL: no memory) an array. */
void ctl_layers_print(const struct ctl_model *m, int batch, int threads);
cJSON *ctl_layers_json(const struct ctl_model *m, int batch, int threads);

/* The last part of a path without a checkpoint's suffix, other characters than a name may have replaced. 0: nothing is left. */
int ctl_name_from_path(const char *path, char name[NETWORK_NAME_MAX]);

double ctl_now_ms(void);                                      /* monotonic */
long long ctl_file_bytes(const char *path);                   /* -1: unknown */
void ctl_shape(const struct node *n, char text[48]);          /* "56x56x64" */
void ctl_window(const struct node *n, char text[48]);         /* "3x3/2 g32": kernel, stride and groups when not 1 */
void ctl_size(double bytes, char text[16]);                   /* "25.6 MB", decimal units */

/* ---- images (ctl_images.c) ---- */

#define CTL_IMAGE_BYTES_MAX (64u << 20) /* of an encoded image */

/* The whole file, at most max bytes. To be freed by the caller. */
int ctl_read_file(const char *path, size_t max, uint8_t **bytes, size_t *size, struct err *e);

/* What --preprocess asks for: the name of a preset, or FILE.json. */
int ctl_preprocess(const char *want, struct preprocess *out, struct err *e);

/* What the preprocessing makes of an encoded image, as w x h pixels, RGB. */
int ctl_pixels_decode(const uint8_t *bytes, size_t size, const struct preprocess *p, int w, int h, uint8_t *rgb, struct err *e);

/* The same of a sample, which may be pixels already. May run on several threads at once. */
int ctl_pixels_make(const struct sample *s, const struct preprocess *p, int w, int h, uint8_t *rgb, struct err *e);

/* The same for image i of a data set; the error names the image. *sample is as dataset_read leaves it. */
int ctl_pixels_read(struct dataset *d, int i, const struct preprocess *p, int w, int h, struct sample *sample, uint8_t *rgb,
                    struct err *e);

/* 0 when its label, if it has one, is one of 0 .. classes - 1; data sets are only checked against names of classes. */
int ctl_check_label(const struct sample *s, int classes, struct err *e);

/* ---- comparison of logits (ctl_compare.c) ---- */

/* How well one network follows another. Zeroed at the start. */
struct ctl_compare {
    int images, agree;
    double signal, noise; /* sums of squares */
};
void ctl_compare_add(struct ctl_compare *c, const float *reference, const float *logits, int classes);
void ctl_compare_merge(struct ctl_compare *c, const struct ctl_compare *other);
double ctl_compare_percent(const struct ctl_compare *c); /* of equal top-1; NAN without images */
double ctl_compare_db(const struct ctl_compare *c);      /* signal to noise; INFINITY when equal, NAN without images */
double ctl_decibel(double signal, double noise);         /* 10 log10, INFINITY without noise */

/* ---- JSON (ctl_json.c): 0, or -1 without memory, so that callers may gather results with |= ---- */

int ctl_put_text(cJSON *object, const char *name, const char *text); /* NULL becomes null */
int ctl_put_number(cJSON *object, const char *name, double value, int digits); /* significant ones; not finite: null */
int ctl_put_item(cJSON *object, const char *name, cJSON *item);      /* takes item, which may be NULL: -1 */
int ctl_put_raw(cJSON *object, const char *name, const char *json);  /* JSON text as it lies in a file; NULL becomes null */
int ctl_append(cJSON *array, cJSON *item);                           /* takes item, which may be NULL: -1 */
cJSON *ctl_number(double value, int digits);
cJSON *ctl_whole(cJSON *item, int bad); /* item, or NULL after deleting it when it is not complete */

/* Prints to stdout and deletes it; `bad` is what the |= gathered. Returns an exit status. */
int ctl_print_json(cJSON *item, int bad);

/* Writes a text, or that of item, to path, through a temporary file. */
int ctl_write_text(const char *path, const char *text, struct err *e);
int ctl_write_json(const char *path, const cJSON *item, struct err *e);

/* For tables: the value, or "-" when it is not a finite number. */
void ctl_cell(double value, int decimals, char text[24]);

#endif
