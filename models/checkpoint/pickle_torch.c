// SPDX-License-Identifier: MIT

#include "models/checkpoint/pickle_torch.h"

#include <stdlib.h>
#include <string.h>

enum what { ORDERED_DICT, COUNTER, TENSOR_V1, TENSOR_V2, PARAMETER, SIZE, DEVICE, STORAGE };

static const struct {
    const char *module, *name;
    enum what what;
    enum st_dtype dtype;
} names[] = {
    {"collections", "OrderedDict", ORDERED_DICT, 0},
    {"collections", "Counter", COUNTER, 0}, /* in the state of learning rate schedulers */
    {"torch._utils", "_rebuild_tensor", TENSOR_V1, 0},
    {"torch._utils", "_rebuild_tensor_v2", TENSOR_V2, 0},
    {"torch._utils", "_rebuild_parameter", PARAMETER, 0},
    {"torch", "Size", SIZE, 0},
    {"torch", "device", DEVICE, 0},
    {"torch", "DoubleStorage", STORAGE, ST_F64},
    {"torch", "FloatStorage", STORAGE, ST_F32},
    {"torch", "HalfStorage", STORAGE, ST_F16},
    {"torch", "BFloat16Storage", STORAGE, ST_BF16},
    {"torch", "LongStorage", STORAGE, ST_I64},
    {"torch", "IntStorage", STORAGE, ST_I32},
    {"torch", "ShortStorage", STORAGE, ST_I16},
    {"torch", "CharStorage", STORAGE, ST_I8},
    {"torch", "ByteStorage", STORAGE, ST_U8},
    {"torch", "BoolStorage", STORAGE, ST_BOOL},
    {"torch.cuda", "DoubleStorage", STORAGE, ST_F64},
    {"torch.cuda", "FloatStorage", STORAGE, ST_F32},
    {"torch.cuda", "HalfStorage", STORAGE, ST_F16},
    {"torch.cuda", "BFloat16Storage", STORAGE, ST_BF16},
    {"torch.cuda", "LongStorage", STORAGE, ST_I64},
    {"torch.cuda", "ByteStorage", STORAGE, ST_U8},
    {"torch.cuda", "BoolStorage", STORAGE, ST_BOOL},
};

static int same(const char *text, size_t size, const char *name)
{
    return strlen(name) == size && memcmp(text, name, size) == 0;
}

int pickle_torch_find(const char *module, size_t module_size, const char *name, size_t name_size, struct err *e)
{
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (same(module, module_size, names[i].module) && same(name, name_size, names[i].name))
            return (int)i;
    const int m = module_size > 60 ? 60 : (int)module_size, n = name_size > 60 ? 60 : (int)name_size;
    return err_set(e, ERR_UNSUPPORTED, "it asks for %.*s.%.*s, which tensors do not need and which is not run; " PICKLE_RESAVE, m,
                   module, n, name);
}

/* A tuple of at most ST_RANK_MAX sizes or strides. */
static int read_sizes(const struct pickle_value *v, int64_t *out, int *rank, struct err *e)
{
    if (v->kind != PICKLE_TUPLE)
        return err_set(e, ERR_DAMAGED, "a tensor's shape is not a tuple");
    if (v->count > ST_RANK_MAX)
        return err_set(e, ERR_UNSUPPORTED, "a tensor of %d dimensions, the limit is %d", v->count, ST_RANK_MAX);
    for (int i = 0; i < v->count; i++) {
        if (v->items[i]->kind != PICKLE_INT || v->items[i]->integer < 0)
            return err_set(e, ERR_DAMAGED, "a tensor's shape or stride is not a number of elements");
        out[i] = v->items[i]->integer;
    }
    *rank = v->count;
    return 0;
}

/* Count and span of a tensor, which has to lie inside its storage. */
static int check_tensor(struct pickle_tensor *t, struct err *e)
{
    t->count = 1;
    t->span = 1;
    for (int i = 0; i < t->rank; i++)
        if (__builtin_mul_overflow(t->count, t->shape[i], &t->count))
            return err_set(e, ERR_DAMAGED, "a tensor's shape is beyond every limit");
    for (int i = 0; i < t->rank && t->count; i++) {
        int64_t reach;
        if (__builtin_mul_overflow(t->shape[i] - 1, t->stride[i], &reach) || __builtin_add_overflow(t->span, reach, &t->span))
            return err_set(e, ERR_DAMAGED, "a tensor's strides are beyond every limit");
    }
    if (t->count == 0)
        t->span = 0;
    if (t->offset > t->storage.count || t->span > t->storage.count - t->offset)
        return err_set(e, ERR_DAMAGED, "a tensor reaches beyond its storage %.*s of %lld elements", (int)t->storage.key_size,
                       t->storage.key, (long long)t->storage.count);
    if (t->count > t->storage.count)
        return err_set(e, ERR_UNSUPPORTED,
                       "a tensor has %lld elements, its storage %.*s %lld: an expanded view; save a clone of it",
                       (long long)t->count, (int)t->storage.key_size, t->storage.key, (long long)t->storage.count);
    return 0;
}

/* storage, offset, size, stride; in version 2 requires_grad, hooks and, since PyTorch 1.11, flags that a weight does not have. */
static int rebuild_tensor(struct pickle_value **a, int count, int version, struct pickle_value *fresh, struct err *e)
{
    if (count < (version == 1 ? 4 : 6) || count > (version == 1 ? 4 : 7) || a[0]->kind != PICKLE_STORAGE ||
        a[1]->kind != PICKLE_INT || a[1]->integer < 0)
        return err_set(e, ERR_DAMAGED, "a tensor is not rebuilt from a storage and an offset");
    if (count == 7 && a[6]->kind != PICKLE_NONE && !(a[6]->kind == PICKLE_DICT && a[6]->count == 0))
        return err_set(e, ERR_UNSUPPORTED, "a tensor with metadata (negative or conjugate view)");
    struct pickle_tensor t = {.storage = a[0]->storage, .offset = a[1]->integer};
    int strides;
    if (read_sizes(a[2], t.shape, &t.rank, e) < 0 || read_sizes(a[3], t.stride, &strides, e) < 0)
        return -1;
    if (t.rank != strides)
        return err_set(e, ERR_DAMAGED, "a tensor has %d dimensions and %d strides", t.rank, strides);
    if (check_tensor(&t, e) < 0)
        return -1;
    struct pickle_tensor *copy = malloc(sizeof *copy);
    if (!copy)
        return err_set(e, ERR_MEMORY, "no memory");
    *copy = t;
    fresh->kind = PICKLE_TENSOR;
    fresh->tensor = copy;
    return 0;
}

int pickle_torch_call(int function, struct pickle_value *arguments, struct pickle_value *fresh, struct pickle_value **result,
                      struct err *e)
{
    struct pickle_value **a = arguments->items;
    const int count = arguments->count;
    switch (names[function].what) {
    case ORDERED_DICT:
        if (count)
            break;
        fresh->kind = PICKLE_DICT;
        return 0;
    case COUNTER:
    case DEVICE:
        fresh->kind = PICKLE_OTHER;
        return 0;
    case TENSOR_V1:
        return rebuild_tensor(a, count, 1, fresh, e);
    case TENSOR_V2:
        return rebuild_tensor(a, count, 2, fresh, e);
    case PARAMETER:
        if (count != 3 || a[0]->kind != PICKLE_TENSOR)
            break;
        *result = a[0];
        return 0;
    case SIZE:
        if (count != 1 || a[0]->kind != PICKLE_TUPLE)
            break;
        *result = a[0];
        return 0;
    case STORAGE:
        break;
    }
    return err_set(e, ERR_UNSUPPORTED, "%s.%s is called with other arguments than torch.save gives", names[function].module,
                   names[function].name);
}

int pickle_torch_storage(const struct pickle_value *id, struct pickle_value *fresh, struct err *e)
{
    struct pickle_value **a = id->items;
    if (id->kind != PICKLE_TUPLE || id->count < 5 || id->count > 6 || a[0]->kind != PICKLE_TEXT ||
        !same(a[0]->text, a[0]->size, "storage") || a[1]->kind != PICKLE_GLOBAL || names[a[1]->integer].what != STORAGE ||
        a[2]->kind != PICKLE_TEXT || a[4]->kind != PICKLE_INT)
        return err_set(e, ERR_DAMAGED, "a persistent id that is not a storage");
    if (id->count == 6 && a[5]->kind != PICKLE_NONE) /* files from before PyTorch 1.6 */
        return err_set(e, ERR_UNSUPPORTED, "a storage that is a view of another");
    const struct pickle_storage s = {a[2]->text, a[2]->size, names[a[1]->integer].dtype, a[4]->integer};
    if (s.key_size == 0 || s.key_size > 32)
        return err_set(e, ERR_DAMAGED, "a storage's key has %zu bytes", s.key_size);
    for (size_t i = 0; i < s.key_size; i++)
        if (!strchr("0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz", s.key[i]) || !s.key[i])
            return err_set(e, ERR_DAMAGED, "a storage's key is not made of letters and digits");
    if (s.count < 0 || s.count > INT64_MAX / 8)
        return err_set(e, ERR_DAMAGED, "storage %.*s has %lld elements", (int)s.key_size, s.key, (long long)s.count);
    fresh->kind = PICKLE_STORAGE;
    fresh->storage = s;
    return 0;
}
