// SPDX-License-Identifier: MIT

#include "models/checkpoint/pickle.h"

#include <stdlib.h>
#include <string.h>

#include "models/checkpoint/pickle_torch.h"

struct pickle {
    struct pickle_value *values, *root; /* values: all there are, chained */
};

struct machine {
    const unsigned char *bytes;
    size_t size, at, start; /* start: of the instruction being carried out */
    struct pickle_value *values;
    int value_count;
    struct pickle_value **stack, **memo;
    int depth, stack_room, memo_room, memo_count;
    int marks[PICKLE_MARKS_MAX], mark_count;
    struct err *e;
};

/* ---- memory ---- */

/* Makes room for one more of count items; doubles. */
static int grow(struct pickle_value ***items, int count, int *room)
{
    if (count < *room)
        return 0;
    const int more = *room ? *room * 2 : 8;
    struct pickle_value **bigger = realloc(*items, (size_t)more * sizeof **items);
    if (!bigger)
        return -1;
    *items = bigger;
    *room = more;
    return 0;
}

static void free_values(struct pickle_value *v)
{
    while (v) {
        struct pickle_value *next = v->next;
        if (v->kind == PICKLE_TUPLE || v->kind == PICKLE_LIST || v->kind == PICKLE_DICT)
            free(v->items);
        else if (v->kind == PICKLE_TENSOR)
            free(v->tensor);
        free(v);
        v = next;
    }
}

static int no_memory(struct machine *m)
{
    return err_set(m->e, ERR_MEMORY, "no memory");
}

static struct pickle_value *value_new(struct machine *m, enum pickle_kind kind)
{
    if (m->value_count == PICKLE_VALUES_MAX) {
        err_set(m->e, ERR_TOO_LARGE, "more than %d values", PICKLE_VALUES_MAX);
        return NULL;
    }
    struct pickle_value *v = calloc(1, sizeof *v);
    if (!v) {
        no_memory(m);
        return NULL;
    }
    v->kind = kind;
    v->next = m->values;
    m->values = v;
    m->value_count++;
    return v;
}

/* ---- the stack ---- */

static int push(struct machine *m, struct pickle_value *v)
{
    if (!v)
        return -1;
    if (m->depth == PICKLE_STACK_MAX)
        return err_set(m->e, ERR_TOO_LARGE, "more than %d values on the stack", PICKLE_STACK_MAX);
    if (grow(&m->stack, m->depth, &m->stack_room) < 0)
        return no_memory(m);
    m->stack[m->depth++] = v;
    return 0;
}

static int base(const struct machine *m)
{
    return m->mark_count ? m->marks[m->mark_count - 1] : 0;
}

/* The value `below` the top; NULL with the error set when the stack, down to the last mark, has fewer. */
static struct pickle_value *peek(struct machine *m, int below)
{
    if (m->depth - base(m) > below)
        return m->stack[m->depth - 1 - below];
    err_set(m->e, ERR_DAMAGED, "the stack is empty");
    return NULL;
}

static struct pickle_value *pop(struct machine *m)
{
    struct pickle_value *v = peek(m, 0);
    if (v)
        m->depth--;
    return v;
}

static int push_int(struct machine *m, enum pickle_kind kind, int64_t integer)
{
    struct pickle_value *v = value_new(m, kind);
    if (v)
        v->integer = integer;
    return push(m, v);
}

/* Takes the upper `count` values off the stack, into a new tuple on it. */
static int push_tuple(struct machine *m, int count)
{
    if (count && !peek(m, count - 1))
        return -1;
    struct pickle_value *v = value_new(m, PICKLE_TUPLE);
    if (!v)
        return -1;
    if (count) {
        v->items = malloc((size_t)count * sizeof *v->items);
        if (!v->items)
            return no_memory(m);
        memcpy(v->items, m->stack + m->depth - count, (size_t)count * sizeof *v->items);
        v->count = v->room = count;
    }
    m->depth -= count;
    return push(m, v);
}

/* Drops the last mark. The number of values above it, -1 when there is none. */
static int pop_mark(struct machine *m)
{
    if (!m->mark_count)
        return err_set(m->e, ERR_DAMAGED, "there is no mark");
    return m->depth - m->marks[--m->mark_count];
}

/* Moves the upper `count` values into the list or dictionary below them. */
static int add_items(struct machine *m, int count, enum pickle_kind kind)
{
    if (count < 0)
        return -1;
    struct pickle_value *to = peek(m, count);
    if (!to)
        return -1;
    if (to->kind != kind || (kind == PICKLE_DICT && count % 2))
        return err_set(m->e, ERR_DAMAGED, "items for what is not a %s", kind == PICKLE_DICT ? "dictionary" : "list");
    for (int i = 0; i < count; i++) {
        if (grow(&to->items, to->count, &to->room) < 0)
            return no_memory(m);
        to->items[to->count++] = m->stack[m->depth - count + i];
    }
    m->depth -= count;
    return 0;
}

/* ---- bytes ---- */

/* `count` bytes of the instruction's argument; NULL with the error set behind the end. */
static const unsigned char *take(struct machine *m, uint64_t count)
{
    if (count > m->size - m->at) {
        err_set(m->e, ERR_DAMAGED, "cut off in the middle of an instruction");
        return NULL;
    }
    const unsigned char *p = m->bytes + m->at;
    m->at += (size_t)count;
    return p;
}

static int take_number(struct machine *m, int bytes, uint64_t *out)
{
    const unsigned char *p = take(m, (uint64_t)bytes);
    if (!p)
        return -1;
    *out = 0;
    for (int i = bytes - 1; i >= 0; i--)
        *out = *out << 8 | p[i];
    return 0;
}

/* A text or bytes whose length comes first, in length_bytes. */
static int push_text(struct machine *m, int length_bytes, enum pickle_kind kind)
{
    uint64_t length;
    if (take_number(m, length_bytes, &length) < 0)
        return -1;
    const unsigned char *p = take(m, length);
    struct pickle_value *v = p ? value_new(m, kind) : NULL;
    if (!v)
        return -1;
    if (kind == PICKLE_TEXT) {
        v->text = (const char *)p;
        v->size = (size_t)length;
    }
    return push(m, v);
}

static int push_float(struct machine *m)
{
    const unsigned char *p = take(m, 8);
    struct pickle_value *v = p ? value_new(m, PICKLE_FLOAT) : NULL;
    if (!v)
        return -1;
    uint64_t bits = 0;
    for (int i = 0; i < 8; i++) /* big endian, unlike all the rest */
        bits = bits << 8 | p[i];
    memcpy(&v->real, &bits, sizeof bits);
    return push(m, v);
}

/* A signed integer of any length: one of more than 64 bits is nobody's size. */
static int push_long(struct machine *m)
{
    uint64_t length, bits = 0;
    if (take_number(m, 1, &length) < 0)
        return -1;
    const unsigned char *p = take(m, length);
    if (!p)
        return -1;
    if (length > 8)
        return push(m, value_new(m, PICKLE_OTHER));
    for (uint64_t i = length; i-- > 0;)
        bits = bits << 8 | p[i];
    if (length && length < 8 && p[length - 1] & 0x80)
        bits |= UINT64_MAX << (8 * length);
    return push_int(m, PICKLE_INT, (int64_t)bits);
}

/* ---- memo ---- */

static int memo_put(struct machine *m, uint64_t at)
{
    struct pickle_value *v = peek(m, 0);
    if (!v)
        return -1;
    if (at >= PICKLE_VALUES_MAX)
        return err_set(m->e, ERR_TOO_LARGE, "memo %llu, the limit is %d", (unsigned long long)at, PICKLE_VALUES_MAX);
    while (at >= (uint64_t)m->memo_room) {
        const int before = m->memo_room;
        if (grow(&m->memo, before, &m->memo_room) < 0)
            return no_memory(m);
        memset(m->memo + before, 0, (size_t)(m->memo_room - before) * sizeof *m->memo);
    }
    m->memo_count += !m->memo[at];
    m->memo[at] = v;
    return 0;
}

static int memo_get(struct machine *m, uint64_t at)
{
    if (at >= (uint64_t)m->memo_room || !m->memo[at])
        return err_set(m->e, ERR_DAMAGED, "memo %llu was never set", (unsigned long long)at);
    return push(m, m->memo[at]);
}

/* ---- names and calls ---- */

static int push_global(struct machine *m, const char *module, size_t module_size, const char *name, size_t name_size)
{
    const int known = pickle_torch_find(module, module_size, name, name_size, m->e);
    return known < 0 ? -1 : push_int(m, PICKLE_GLOBAL, known);
}

/* Two lines. */
static int global(struct machine *m)
{
    const char *line[2];
    size_t length[2];
    for (int i = 0; i < 2; i++) {
        const unsigned char *p = m->bytes + m->at, *end = memchr(p, '\n', m->size - m->at);
        if (!end)
            return err_set(m->e, ERR_DAMAGED, "cut off in the middle of a name");
        line[i] = (const char *)p;
        length[i] = (size_t)(end - p);
        m->at += length[i] + 1;
    }
    return push_global(m, line[0], length[0], line[1], length[1]);
}

static int stack_global(struct machine *m)
{
    const struct pickle_value *name = pop(m), *module = name ? pop(m) : NULL;
    if (!module)
        return -1;
    if (name->kind != PICKLE_TEXT || module->kind != PICKLE_TEXT)
        return err_set(m->e, ERR_DAMAGED, "a name that is not a text");
    return push_global(m, module->text, module->size, name->text, name->size);
}

static int reduce(struct machine *m)
{
    struct pickle_value *arguments = pop(m), *function = arguments ? pop(m) : NULL;
    if (!function)
        return -1;
    if (function->kind != PICKLE_GLOBAL || arguments->kind != PICKLE_TUPLE)
        return err_set(m->e, ERR_DAMAGED, "a call of what is not a function");
    struct pickle_value *fresh = value_new(m, PICKLE_NONE), *result = fresh;
    if (!fresh || pickle_torch_call((int)function->integer, arguments, fresh, &result, m->e) < 0)
        return -1;
    return push(m, result);
}

static int persistent(struct machine *m)
{
    const struct pickle_value *id = pop(m);
    struct pickle_value *fresh = id ? value_new(m, PICKLE_NONE) : NULL;
    if (!fresh || pickle_torch_storage(id, fresh, m->e) < 0)
        return -1;
    return push(m, fresh);
}

/* Attributes of a dictionary, such as a state_dict's _metadata, are of no use here. */
static int build(struct machine *m)
{
    if (!pop(m))
        return -1;
    const struct pickle_value *to = peek(m, 0);
    if (!to)
        return -1;
    return to->kind == PICKLE_DICT ? 0 : err_set(m->e, ERR_UNSUPPORTED, "attributes for what is not a dictionary");
}

/* ---- the machine ---- */

enum { STOPPED = 1 };

static int step(struct machine *m)
{
    uint64_t n;
    int count;
    const unsigned char *op = take(m, 1);
    if (!op)
        return -1;
    switch (*op) {
    case 0x80: /* PROTO */
        if (take_number(m, 1, &n) < 0)
            return -1;
        return n >= 2 && n <= 5 ? 0 : err_set(m->e, ERR_UNSUPPORTED, "pickle protocol %llu", (unsigned long long)n);
    case 0x95: /* FRAME: a hint for readers of streams */
        return take_number(m, 8, &n);
    case '.': /* STOP */
        return STOPPED;
    case '(': /* MARK */
        if (m->mark_count == PICKLE_MARKS_MAX)
            return err_set(m->e, ERR_TOO_LARGE, "nested deeper than %d", PICKLE_MARKS_MAX);
        m->marks[m->mark_count++] = m->depth;
        return 0;
    case 'N': /* NONE */
        return push(m, value_new(m, PICKLE_NONE));
    case 0x88: /* NEWTRUE */
    case 0x89: /* NEWFALSE */
        return push_int(m, PICKLE_BOOL, *op == 0x88);
    case 'J': /* BININT */
        return take_number(m, 4, &n) < 0 ? -1 : push_int(m, PICKLE_INT, (int32_t)(uint32_t)n);
    case 'K': /* BININT1 */
        return take_number(m, 1, &n) < 0 ? -1 : push_int(m, PICKLE_INT, (int64_t)n);
    case 'M': /* BININT2 */
        return take_number(m, 2, &n) < 0 ? -1 : push_int(m, PICKLE_INT, (int64_t)n);
    case 0x8a: /* LONG1 */
        return push_long(m);
    case 'G': /* BINFLOAT */
        return push_float(m);
    case 'X': /* BINUNICODE */
    case 'T': /* BINSTRING, Python 2 */
        return push_text(m, 4, PICKLE_TEXT);
    case 0x8c: /* SHORT_BINUNICODE */
    case 'U':  /* SHORT_BINSTRING, Python 2 */
        return push_text(m, 1, PICKLE_TEXT);
    case 0x8d: /* BINUNICODE8 */
        return push_text(m, 8, PICKLE_TEXT);
    case 'C': /* SHORT_BINBYTES */
        return push_text(m, 1, PICKLE_OTHER);
    case 'B': /* BINBYTES */
        return push_text(m, 4, PICKLE_OTHER);
    case ')': /* EMPTY_TUPLE */
        return push(m, value_new(m, PICKLE_TUPLE));
    case 0x85: /* TUPLE1 */
    case 0x86: /* TUPLE2 */
    case 0x87: /* TUPLE3 */
        return push_tuple(m, *op - 0x84);
    case 't': /* TUPLE */
        count = pop_mark(m);
        return count < 0 ? -1 : push_tuple(m, count);
    case ']': /* EMPTY_LIST */
        return push(m, value_new(m, PICKLE_LIST));
    case 'a': /* APPEND */
        return add_items(m, 1, PICKLE_LIST);
    case 'e': /* APPENDS */
        return add_items(m, pop_mark(m), PICKLE_LIST);
    case '}': /* EMPTY_DICT */
        return push(m, value_new(m, PICKLE_DICT));
    case 's': /* SETITEM */
        return add_items(m, 2, PICKLE_DICT);
    case 'u': /* SETITEMS */
        return add_items(m, pop_mark(m), PICKLE_DICT);
    case 'q': /* BINPUT */
        return take_number(m, 1, &n) < 0 ? -1 : memo_put(m, n);
    case 'r': /* LONG_BINPUT */
        return take_number(m, 4, &n) < 0 ? -1 : memo_put(m, n);
    case 0x94: /* MEMOIZE */
        return memo_put(m, (uint64_t)m->memo_count);
    case 'h': /* BINGET */
        return take_number(m, 1, &n) < 0 ? -1 : memo_get(m, n);
    case 'j': /* LONG_BINGET */
        return take_number(m, 4, &n) < 0 ? -1 : memo_get(m, n);
    case 'c': /* GLOBAL */
        return global(m);
    case 0x93: /* STACK_GLOBAL */
        return stack_global(m);
    case 'R': /* REDUCE */
        return reduce(m);
    case 'b': /* BUILD */
        return build(m);
    case 'Q': /* BINPERSID */
        return persistent(m);
    default:
        return err_set(m->e, ERR_UNSUPPORTED, "pickle instruction 0x%02x, which tensors do not need; " PICKLE_RESAVE, *op);
    }
}

int pickle_read(const unsigned char *bytes, size_t size, size_t *used, struct pickle **out, struct err *e)
{
    if (size > PICKLE_BYTES_MAX)
        return err_set(e, ERR_TOO_LARGE, "%zu bytes of pickle, the limit is %d", size, PICKLE_BYTES_MAX);
    struct machine m = {.bytes = bytes, .size = size, .e = e};
    int r = 0;
    while (r == 0) {
        m.start = m.at;
        r = step(&m);
    }
    struct pickle *p = NULL;
    if (r == STOPPED && (m.depth != 1 || m.mark_count))
        r = err_set(e, ERR_DAMAGED, "it stops with %d values on the stack instead of one", m.depth);
    if (r == STOPPED && !(p = malloc(sizeof *p)))
        r = no_memory(&m);
    if (r == STOPPED)
        *p = (struct pickle){m.values, m.stack[0]};
    else
        free_values(m.values);
    free(m.stack);
    free(m.memo);
    if (r < 0)
        return err_prefix(e, "byte %zu", m.start);
    *out = p;
    if (used)
        *used = m.at;
    return 0;
}

void pickle_free(struct pickle *p)
{
    if (p)
        free_values(p->values);
    free(p);
}

const struct pickle_value *pickle_root(const struct pickle *p)
{
    return p->root;
}

int pickle_storages(const struct pickle *p, const struct pickle_storage ***out)
{
    int count = 0, n = 0;
    for (const struct pickle_value *v = p->values; v; v = v->next)
        count += v->kind == PICKLE_STORAGE;
    const struct pickle_storage **list = malloc(((size_t)count + 1) * sizeof *list);
    if (!list)
        return -1;
    for (const struct pickle_value *v = p->values; v; v = v->next)
        if (v->kind == PICKLE_STORAGE)
            list[n++] = &v->storage;
    *out = list;
    return count;
}

const struct pickle_value *pickle_get(const struct pickle_value *d, const char *key)
{
    const size_t size = strlen(key);
    for (int i = d->kind == PICKLE_DICT ? d->count - 2 : -1; i >= 0; i -= 2)
        if (d->items[i]->kind == PICKLE_TEXT && d->items[i]->size == size && memcmp(d->items[i]->text, key, size) == 0)
            return d->items[i + 1];
    return NULL;
}
