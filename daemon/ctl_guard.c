// SPDX-License-Identifier: MIT

#include "daemon/ctl_guard.h"

#include <math.h>
#include <stdlib.h>

#include "daemon/ctl_table.h"

static int no_memory(struct err *e)
{
    return err_set(e, ERR_MEMORY, "no memory for a report");
}

static int put_fidelity(cJSON *o, const char *prefix, const struct fidelity *f)
{
    char agreement[32], db[32], drop[32];
    snprintf(agreement, sizeof agreement, "%sagreement", prefix);
    snprintf(db, sizeof db, "%ssqnr_db", prefix);
    snprintf(drop, sizeof drop, "%stop1_drop", prefix);
    int bad = ctl_put_number(o, agreement, fidelity_percent(f), 6);
    bad |= ctl_put_number(o, db, fidelity_db(f), 6);
    return f->labelled ? bad | ctl_put_number(o, drop, fidelity_drop(f), 6) : bad;
}

static cJSON *row_json(const struct graph *g, const struct sensitivity *s)
{
    cJSON *o = cJSON_CreateObject();
    int bad = ctl_put_text(o, "name", g->nodes[s->node].name);
    bad |= put_fidelity(o, "alone_", &s->alone);
    if (s->spared.images)
        bad |= put_fidelity(o, "spared_", &s->spared);
    return ctl_whole(o, bad);
}

static cJSON *rows_json(const struct graph *g, const struct sensitivity *s, int count)
{
    cJSON *rows = cJSON_CreateArray();
    int bad = !rows;
    for (int i = 0; i < count && !bad; i++)
        bad = ctl_append(rows, row_json(g, &s[i]));
    if (!bad)
        return rows;
    cJSON_Delete(rows);
    return NULL;
}

static int measure(const struct calibration *c, const struct quantize_options *how, const struct network *q, cJSON **out,
                   struct err *e)
{
    const struct network *fp32 = calibration_network(c);
    struct network fp16;
    struct sensitivity *layers;
    int count;
    if (quantize_network(fp32, PRECISION_FP16, NULL, c, &fp16, NULL, e) < 0)
        return err_prefix(e, "sensitivity compares with fp16");
    int rc = sensitivity_measure(c, q, &fp16, 0, 1, how, &layers, &count, e);
    network_free(&fp16);
    if (rc < 0)
        return -1;
    *out = rows_json(&fp32->graph, layers, count);
    free(layers);
    return *out ? 0 : no_memory(e);
}

/* Of weights, scales and biases, as the file holds them. */
static double stored_bytes(const struct network *n)
{
    double sum = 0;
    for (int i = 0; i < n->graph.count; i++)
        if (node_has_weights(&n->graph.nodes[i])) {
            const enum precision p = node_precision(&n->graph.nodes[i], n->precision);
            const int arrays = p == PRECISION_INT8 ? 2 : 1;
            sum += (double)node_weights(&n->graph, i) * (double)weight_bytes(p) + 4.0 * arrays * n->graph.nodes[i].c;
        }
    return sum;
}

static cJSON *fallback_json(const struct graph *g, const char *keep, const struct fallback *f, double before, double after)
{
    cJSON *o = cJSON_CreateObject(), *a = cJSON_CreateObject(), *b = cJSON_CreateObject();
    int bad = ctl_put_text(o, "keep", keep);
    bad |= put_fidelity(a, "", &f->before);
    bad |= put_fidelity(b, "", &f->after);
    bad |= ctl_put_item(o, "before", a);
    bad |= ctl_put_item(o, "after", b);
    bad |= ctl_put_item(o, "layers", rows_json(g, f->layers, f->count));
    bad |= ctl_put_number(o, "images", f->after.images, 9);
    bad |= ctl_put_number(o, "weights_bytes_before", before, 17);
    bad |= ctl_put_number(o, "weights_bytes_after", after, 17);
    return ctl_whole(o, bad);
}

/* What a guard that does not hold is told with: what int8 alone does, and fp16 too. */
static void explain(const struct fallback *f, struct err *why)
{
    if (f->before.images && f->after.agree != f->before.agree)
        err_prefix(why, "int8 agrees with fp32 on %.2f %%", fidelity_percent(&f->before));
}

static int mix(const struct ctl_guard_options *o, const struct calibration *c, const struct quantize_options *how,
               struct network *q, struct ctl_guarded *out, struct err *e)
{
    const struct graph *g = &calibration_network(c)->graph;
    const double before = stored_bytes(q);
    unsigned char *keep = calloc((size_t)g->count, 1);
    struct fallback f = {0};
    if (!keep)
        return no_memory(e);
    int rc = o->keep_fp16 ? layers_parse(g, o->keep_fp16, keep, e) : 0;
    if (rc == 0 && fall_back(c, &o->guard, o->keep_fp16 ? keep : NULL, how, q, &f, &out->why) < 0) {
        out->failed = 1;
        explain(&f, &out->why);
    } else if (rc == 0 && (f.count || o->keep_fp16)) {
        out->fallback = fallback_json(g, o->keep_fp16, &f, before, stored_bytes(q));
        rc = out->fallback ? 0 : no_memory(e);
    }
    fallback_free(&f);
    free(keep);
    return rc;
}

int ctl_guard(const struct ctl_guard_options *o, const struct calibration *c, const struct quantize_options *how,
              struct network *q, struct ctl_guarded *out, struct err *e)
{
    const int guarded = o->guard.min_agreement >= 0 || o->guard.max_drop >= 0;
    struct fidelity f;
    if (q->precision != PRECISION_INT8) {
        if (!guarded)
            return 0;
        if (calibration_compare(c, q, 0, &f, e) < 0)
            return -1;
        out->failed = guard_check(&o->guard, &f, &out->why) < 0;
        return 0;
    }
    if (o->sensitivity && measure(c, how, q, &out->sensitivity, e) < 0)
        return -1;
    return guarded || o->keep_fp16 ? mix(o, c, how, q, out, e) : 0;
}

void ctl_guarded_free(struct ctl_guarded *g)
{
    cJSON_Delete(g->sensitivity);
    cJSON_Delete(g->fallback);
    *g = (struct ctl_guarded){0};
}

/* ---- for people */

static const struct ctl_column columns[] = {{"name", "layer", CELL_TEXT, 0, 0},
                                            {"alone_sqnr_db", "alone dB", CELL_NUMBER, 1, 0},
                                            {"alone_agreement", "agrees %", CELL_NUMBER, 1, 0},
                                            {"alone_top1_drop", "drop", CELL_NUMBER, 1, 0},
                                            {"spared_sqnr_db", "spared dB", CELL_NUMBER, 1, 0},
                                            {"spared_agreement", "agrees %", CELL_NUMBER, 1, 0},
                                            {"spared_top1_drop", "drop", CELL_NUMBER, 1, 0},
                                            {NULL, NULL, CELL_TEXT, 0, 0}};

static void print_side(FILE *f, const char *what, const cJSON *o)
{
    char agreement[24], db[24];
    ctl_cell(ctl_number_of(o, "agreement"), 2, agreement);
    ctl_cell(ctl_number_of(o, "sqnr_db"), 1, db);
    fprintf(f, "%s: agrees with fp32 on %s %%, %s dB", what, agreement, db);
    if (isfinite(ctl_number_of(o, "top1_drop")))
        fprintf(f, ", drop of top-1 %.2f points", ctl_number_of(o, "top1_drop"));
}

void ctl_guarded_print(FILE *f, int markdown, const cJSON *sensitivity, const cJSON *fallback)
{
    const enum ctl_table_style style = markdown ? TABLE_MARKDOWN : TABLE_ALIGNED;
    if (sensitivity) {
        fprintf(
            f,
            "%sWhat int8 costs, measured on the logits: this layer alone in int8 and all others in fp16; this layer spared and\n"
            "all others in int8.\n%s",
            markdown ? "\n## Sensitivity\n\n" : "", markdown ? "\n" : "");
        ctl_table(f, style, sensitivity, columns);
        fprintf(f, "\n");
    }
    if (!fallback)
        return;
    const cJSON *layers = cJSON_GetObjectItemCaseSensitive(fallback, "layers");
    const double before = ctl_number_of(fallback, "weights_bytes_before"), after = ctl_number_of(fallback, "weights_bytes_after");
    const char *keep = ctl_text_of(fallback, "keep");
    char from[16], to[16];
    if (markdown)
        fprintf(f, "\n## Layers in fp16\n\n");
    if (keep)
        fprintf(f, "In fp16 by --keep-fp16: %s\n", keep);
    if (cJSON_GetArraySize(layers)) {
        fprintf(f, "In fp16 because the guard did not hold without, and what each costs alone in int8:\n%s",
                markdown ? "\n" : "");
        ctl_table(f, style, layers, columns);
        print_side(f, markdown ? "\nBefore" : "before", cJSON_GetObjectItemCaseSensitive(fallback, "before"));
        print_side(f, "; after", cJSON_GetObjectItemCaseSensitive(fallback, "after"));
        fprintf(f, ", on %.0f held-back images\n", ctl_number_of(fallback, "images"));
    }
    ctl_size(before, from);
    ctl_size(after, to);
    fprintf(f, "Weights: %s instead of %s, %+.1f %%\n\n", to, from, 100 * (after / before - 1));
}
