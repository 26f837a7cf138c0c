// SPDX-License-Identifier: MIT
//
// ctl_loss_report.c - what was lost, as JSON, and the tables made of it.

#include "daemon/ctl_loss.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/ctl_table.h"
#include "kernels/half.h"

#define WORST 3 /* layers that are marked */

static double weight_at(const struct layer *l, enum precision p, int64_t i, int64_t depth)
{
    switch (p) {
    case PRECISION_FP32:
        return (double)((const float *)l->weight)[i];
    case PRECISION_FP16:
        return (double)half_to_float(((const uint16_t *)l->weight)[i]);
    default:
        return (double)((const int8_t *)l->weight)[i] * (double)l->scale[i / depth];
    }
}

static double weight_sqnr_db(const struct loss *l, int reference, int node)
{
    const struct layer *a = &l->fp32->layers[reference], *b = &l->q->layers[node];
    const enum precision p = node_precision(&l->q->graph.nodes[node], l->q->precision);
    const int64_t count = node_weights(&l->q->graph, node), depth = node_depth(&l->q->graph, node);
    double signal = 0, noise = 0;
    for (int64_t i = 0; i < count; i++) {
        const double w = (double)((const float *)a->weight)[i], d = weight_at(b, p, i, depth) - w;
        signal += w * w;
        noise += d * d;
    }
    return ctl_decibel(signal, noise);
}

static double output_db(const struct loss *l, int i)
{
    return l->layers && l->layers[i].count > 0 ? ctl_decibel(l->layers[i].signal, l->layers[i].noise) : (double)NAN;
}

/* 1 for the layer whose output is furthest from fp32's, up to WORST; 0 for the others. */
static int worst_rank(const struct loss *l, int node)
{
    const double db = output_db(l, node);
    int place = 1;
    for (int i = 0; i < l->q->graph.count; i++) {
        const double other = output_db(l, i);
        place += other < db || (other == db && i < node);
    }
    return isfinite(db) && place <= WORST ? place : 0;
}

static cJSON *layer_json(const struct loss *l, int reference, int i)
{
    const struct network *q = l->q;
    const struct node *n = &q->graph.nodes[i];
    const struct loss_layer *s = l->layers && l->layers[i].count > 0 ? &l->layers[i] : NULL;
    const struct quant *quant = q->quants && q->quants[i].scale > 0 ? &q->quants[i] : NULL;
    const int shape[3] = {n->h, n->w, n->c}, worst = worst_rank(l, i), has_weights = node_has_weights(n);
    const enum precision p = node_precision(n, q->precision);
    const double unknown = (double)NAN;
    cJSON *o = cJSON_CreateObject();
    int bad = ctl_put_text(o, "name", n->name);
    bad |= ctl_put_text(o, "op", op_name(n->op));
    bad |= ctl_put_text(o, "precision", precision_name(p));
    bad |= ctl_put_item(o, "shape", cJSON_CreateIntArray(shape, 3));
    bad |= ctl_put_number(o, "macs", (double)node_macs(&q->graph, i), 17);
    bad |= ctl_put_number(o, "weight_sqnr_db", has_weights && reference >= 0 ? weight_sqnr_db(l, reference, i) : unknown, 6);
    bad |= ctl_put_number(o, "output_sqnr_db", output_db(l, i), 6);
    bad |= ctl_put_number(o, "cosine", s && s->signal > 0 && s->power > 0 ? s->product / sqrt(s->signal * s->power) : unknown, 9);
    bad |= ctl_put_number(o, "clipped_low", s && quant ? s->low / s->count : unknown, 6);
    bad |= ctl_put_number(o, "clipped_high", s && quant ? s->high / s->count : unknown, 6);
    bad |= ctl_put_number(o, "scale", quant ? (double)quant->scale : unknown, 9);
    bad |= ctl_put_number(o, "zero", quant ? quant->zero : unknown, 9);
    bad |= ctl_put_number(o, "worst", worst ? worst : unknown, 9);
    return ctl_whole(o, bad);
}

static cJSON *layers_json(const struct loss *l)
{
    cJSON *all = cJSON_CreateArray();
    struct graph_name *names = graph_names(&l->fp32->graph);
    int bad = !names;
    for (int i = 0; !bad && i < l->q->graph.count; i++) {
        const int reference = graph_names_find(names, l->fp32->graph.count, l->q->graph.nodes[i].name);
        bad |= ctl_append(all, layer_json(l, reference, i));
    }
    free(names);
    return ctl_whole(all, bad);
}

static int put_class(cJSON *o, const struct network *n, const char *name, const char *name_of_label, int class)
{
    return ctl_put_number(o, name, class, 9) | ctl_put_text(o, name_of_label, class < n->label_count ? n->labels[class] : NULL);
}

static cJSON *images_json(const struct loss *l, const struct loss_image *images, int count)
{
    cJSON *all = cJSON_CreateArray();
    int bad = 0;
    for (int i = 0; i < count; i++) {
        const struct loss_image *m = &images[i];
        cJSON *o = cJSON_CreateObject();
        bad |= ctl_put_text(o, "file", m->file);
        bad |= ctl_put_number(o, "logit_sqnr_db", ctl_decibel(m->signal, m->noise), 6);
        bad |= ctl_put_number(o, "largest_difference", m->largest, 6);
        bad |= ctl_put_number(o, "margin", m->margin, 6);
        bad |= put_class(o, l->fp32, "reference_class", "reference_label", m->want);
        bad |= put_class(o, l->fp32, "class", "label", m->have);
        bad |= ctl_put_item(o, "flipped", cJSON_CreateBool(m->want != m->have));
        bad |= ctl_append(all, o);
    }
    return ctl_whole(all, bad);
}

static cJSON *memory_json(const struct loss *l)
{
    cJSON *all = cJSON_CreateArray();
    int bad = 0;
    for (int i = 0; i < 2; i++) {
        const struct loss_memory *m = &l->memory[i];
        const double unknown = m->arena ? 1 : (double)NAN;
        cJSON *o = cJSON_CreateObject();
        bad |= ctl_put_text(o, "precision", precision_name(i ? l->q->precision : l->fp32->precision));
        bad |= ctl_put_number(o, "stored_bytes", (double)m->stored, 17);
        bad |= ctl_put_number(o, "weights_bytes", unknown * (double)m->weights, 17);
        bad |= ctl_put_number(o, "unplanned_bytes", unknown * (double)m->unplanned, 17);
        bad |= ctl_put_number(o, "arena_bytes", unknown * (double)m->arena, 17);
        bad |= ctl_put_number(o, "total_unplanned_bytes", unknown * (double)(m->stored + m->unplanned), 17);
        bad |= ctl_put_number(o, "total_bytes", unknown * (double)(m->weights + m->arena), 17);
        bad |= ctl_append(all, o);
    }
    return ctl_whole(all, bad);
}

/* The model file's own account, in which the row of the table of tries that was taken gets a mark. */
static cJSON *quantization_json(const struct network *q)
{
    static const char *const keys[] = {"method", "weights", "bias_corrected"};
    cJSON *o = q->quantization ? cJSON_Parse(q->quantization) : cJSON_CreateNull(), *row;
    int bad = !o;
    cJSON_ArrayForEach(row, cJSON_GetObjectItemCaseSensitive(o, "tried"))
    {
        int chosen = 1;
        for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
            chosen &= cJSON_Compare(cJSON_GetObjectItemCaseSensitive(row, keys[i]), cJSON_GetObjectItemCaseSensitive(o, keys[i]),
                                    1) != 0;
        bad |= ctl_put_item(row, "chosen", cJSON_CreateBool(chosen));
    }
    return ctl_whole(o, bad);
}

cJSON *loss_json(const struct loss *l)
{
    const struct network *q = l->q;
    const int all_labelled = l->labelled && l->labelled == l->logits.images;
    const double share = all_labelled ? 100.0 / l->labelled : (double)NAN;
    cJSON *o = cJSON_CreateObject();
    int bad = ctl_put_text(o, "name", q->name);
    bad |= ctl_put_text(o, "precision", precision_name(q->precision));
    bad |= ctl_put_number(o, "images", l->logits.images, 9);
    bad |= ctl_put_number(o, "agreement", ctl_compare_percent(&l->logits), 6);
    bad |= ctl_put_number(o, "logit_sqnr_db", ctl_compare_db(&l->logits), 6);
    bad |= ctl_put_number(o, "reference_top1", share * l->right[0], 6);
    bad |= ctl_put_number(o, "top1", share * l->right[1], 6);
    bad |= ctl_put_number(o, "flipped", l->logits.images - l->logits.agree, 9);
    bad |= ctl_put_number(o, "macs", (double)graph_macs(&q->graph), 17);
    bad |= ctl_put_item(o, "memory", memory_json(l));
    bad |= ctl_put_item(o, "quantization", quantization_json(q));
    bad |= ctl_put_item(o, "worst_images", images_json(l, l->worst, l->worst_count));
    bad |= ctl_put_item(o, "flips", images_json(l, l->flips, l->flip_count));
    bad |= ctl_put_item(o, "layers", layers_json(l));
    return ctl_whole(o, bad);
}

/* ---- tables ---- */

static const struct ctl_column layer_columns[] = {
    {"name", "layer", CELL_TEXT, 0, 0},
    {"op", "op", CELL_TEXT, 0, 0},
    {"precision", "in", CELL_TEXT, 0, 0},
    {"shape", "output", CELL_SHAPE, 0, 0},
    {"macs", "MMAC", CELL_NUMBER, 2, 1e-6},
    {"weight_sqnr_db", "weight dB", CELL_NUMBER, 1, 0},
    {"output_sqnr_db", "output dB", CELL_NUMBER, 1, 0},
    {"cosine", "cosine", CELL_NUMBER, 6, 0},
    {"clipped_low", "% below", CELL_NUMBER, 4, 100},
    {"clipped_high", "% above", CELL_NUMBER, 4, 100},
    {"scale", "scale", CELL_FIGURE, 4, 0},
    {"zero", "zero", CELL_NUMBER, 0, 0},
    {"worst", "worst", CELL_NUMBER, 0, 0},
    {0},
};

static const struct ctl_column try_columns[] = {
    {"method", "ranges", CELL_TEXT, 0, 0},
    {"weights", "rounding", CELL_TEXT, 0, 0},
    {"bias_corrected", "bias corrected", CELL_TEXT, 0, 0},
    {"logit_sqnr_db", "SQNR dB", CELL_NUMBER, 2, 0},
    {"agreement", "agree %", CELL_NUMBER, 2, 0},
    {"chosen", "taken", CELL_TEXT, 0, 0},
    {0},
};

static const struct ctl_column memory_columns[] = {
    {"precision", "precision", CELL_TEXT, 0, 0},
    {"stored_bytes", "weights in the file", CELL_BYTES, 0, 0},
    {"weights_bytes", "in memory", CELL_BYTES, 0, 0},
    {"unplanned_bytes", "every activation kept", CELL_BYTES, 0, 0},
    {"arena_bytes", "arena", CELL_BYTES, 0, 0},
    {"total_unplanned_bytes", "file + every activation", CELL_BYTES, 0, 0},
    {"total_bytes", "memory + arena", CELL_BYTES, 0, 0},
    {0},
};

static const struct ctl_column image_columns[] = {
    {"file", "image", CELL_TEXT, 0, 0},
    {"logit_sqnr_db", "SQNR dB", CELL_NUMBER, 1, 0},
    {"largest_difference", "largest difference", CELL_NUMBER, 3, 0},
    {"margin", "fp32's margin", CELL_NUMBER, 3, 0},
    {"reference_class", "fp32's class", CELL_NUMBER, 0, 0},
    {"reference_label", "", CELL_TEXT, 0, 0},
    {"class", "class", CELL_NUMBER, 0, 0},
    {"label", "", CELL_TEXT, 0, 0},
    {0},
};

static const cJSON *part(const cJSON *o, const char *name)
{
    return cJSON_GetObjectItemCaseSensitive(o, name);
}

static const cJSON *tries(const cJSON *report)
{
    return part(part(report, "quantization"), "tried");
}

static void section(FILE *f, const char *title, const cJSON *rows, const struct ctl_column *columns)
{
    if (cJSON_GetArraySize(rows) == 0)
        return;
    fprintf(f, "\n## %s\n\n", title);
    ctl_table(f, TABLE_MARKDOWN, rows, columns);
}

void loss_markdown(FILE *f, const cJSON *o)
{
    const double images = ctl_number_of(o, "images"), top1 = ctl_number_of(o, "top1");
    char agreement[24], db[24];
    ctl_cell(ctl_number_of(o, "agreement"), 2, agreement);
    ctl_cell(ctl_number_of(o, "logit_sqnr_db"), 1, db);
    fprintf(f, "# %s in %s\n\n", ctl_text_of(o, "name"), ctl_text_of(o, "precision"));
    if (images > 0) {
        fprintf(f, "* top-1 agrees with fp32 on %s %% of %.0f images; on %.0f it does not\n", agreement, images,
                ctl_number_of(o, "flipped"));
        fprintf(f, "* signal-to-noise ratio of the logits: %s dB\n", db);
    }
    if (isfinite(top1))
        fprintf(f, "* top-1: %.2f %%, of fp32 %.2f %%\n", top1, ctl_number_of(o, "reference_top1"));
    fprintf(f, "* %.3f million multiplications an image\n", 1e-6 * ctl_number_of(o, "macs"));
    const cJSON *name, *half = part(part(o, "quantization"), "fp16_layers");
    if (cJSON_GetArraySize(half) > 0) {
        fprintf(f, "* layers in fp16:");
        cJSON_ArrayForEach(name, half) fprintf(f, " %s", cJSON_IsString(name) ? name->valuestring : "-");
        fprintf(f, "\n");
    }
    section(f, "What was tried", tries(o), try_columns);
    section(f, "Memory", part(o, "memory"), memory_columns);
    section(f, "Layers", part(o, "layers"), layer_columns);
    if (cJSON_GetArraySize(part(o, "layers")) > 0)
        fprintf(
            f,
            "\nOutputs are held against those of fp32, so they carry what all layers before them lost. A convolution that is\n"
            "computed within a residual add has no output of its own. Above and below: the share of fp32's values beyond\n"
            "the int8 range. Worst: the %d outputs furthest from fp32's.\n",
            WORST);
    section(f, "Images that differ most", part(o, "worst_images"), image_columns);
    section(f, "Images whose class changes", part(o, "flips"), image_columns);
}

void loss_print_summary(const cJSON *o)
{
    const double images = ctl_number_of(o, "images"), top1 = ctl_number_of(o, "top1");
    const cJSON *fp32 = cJSON_GetArrayItem(part(o, "memory"), 0), *q = cJSON_GetArrayItem(part(o, "memory"), 1);
    if (cJSON_GetArraySize(tries(o)) > 1) {
        ctl_table(stdout, TABLE_ALIGNED, tries(o), try_columns);
        printf("\n");
    }
    if (images > 0) {
        char agreement[24], db[24], kept[16], planned[16];
        ctl_cell(ctl_number_of(o, "agreement"), 2, agreement);
        ctl_cell(ctl_number_of(o, "logit_sqnr_db"), 1, db);
        printf("top-1 agrees with fp32 on %s %% of %.0f images, logits within %s dB\n", agreement, images, db);
        if (isfinite(top1))
            printf("top-1 %.2f %%, of fp32 %.2f %%\n", top1, ctl_number_of(o, "reference_top1"));
        ctl_size(ctl_number_of(fp32, "total_unplanned_bytes"), kept);
        ctl_size(ctl_number_of(q, "total_bytes"), planned);
        printf("memory: %s, weights and activations; fp32 as stored, with every activation kept: %s\n", planned, kept);
    }
}

void loss_print_layers(const cJSON *o)
{
    printf("\n");
    ctl_table(stdout, TABLE_ALIGNED, part(o, "layers"), layer_columns);
}
