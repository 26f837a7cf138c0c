// SPDX-License-Identifier: MIT
//
// The pickle machine on programs assembled here: what torch.save writes is read, whatever else a pickle can ask for is refused by
// name, and no program, cut or endless, does harm.

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "models/checkpoint/pickle.h"
#include "tests/scarce.h"

/* ---- programs ---- */

/* A C string literal with its NUL bytes, without the last. */
#define PROGRAM(text) (const unsigned char *)(text), sizeof(text) - 1

/* One float tensor [2,3] in storage 0 of 8 elements, from element 1: {'w': tensor} */
#define TENSOR_HEAD "\x80\x02}X\x01\0\0\0wctorch._utils\n_rebuild_tensor_v2\n("
#define STORAGE(count)                                                                                                           \
    "(X\x07\0\0\0storagectorch\nFloatStorage\nX\x01\0\0\0"                                                                       \
    "0X\x03\0\0\0"                                                                                                               \
    "cpuK" count "tQ"
#define HOOKS                                                                                                                    \
    "\x89"                                                                                                                       \
    "ccollections\nOrderedDict\n)R"
#define TENSOR(offset, shape, stride) TENSOR_HEAD STORAGE("\x08") "K" offset "(" shape "t(" stride "t" HOOKS "tRs."

static const struct pickle_value *read_ok(struct pickle **p, const unsigned char *bytes, size_t size)
{
    struct err e = {.text = ""};
    if (pickle_read(bytes, size, NULL, p, &e) < 0) {
        print_error("%s\n", e.text);
        fail();
    }
    return pickle_root(*p);
}

static void refuse(const unsigned char *bytes, size_t size, enum err_code code, const char *text)
{
    struct pickle *p = NULL;
    struct err e = {.text = ""};
    assert_int_equal(pickle_read(bytes, size, NULL, &p, &e), -1);
    assert_null(p);
    if (!strstr(e.text, text) || e.code != code || strncmp(e.text, "byte ", 5) != 0) {
        print_error("expected \"%s\" (%d) in \"%s\" (%d)\n", text, code, e.text, e.code);
        fail();
    }
}

/* ---- tests ---- */

static void a_tensor(void **unused)
{
    (void)unused;
    struct pickle *p;
    const struct pickle_value *root = read_ok(&p, PROGRAM(TENSOR("\x01", "K\x02K\x03", "K\x03K\x01")));
    const struct pickle_value *w = pickle_get(root, "w");
    assert_true(root->kind == PICKLE_DICT && root->count == 2 && w && w->kind == PICKLE_TENSOR);
    const struct pickle_tensor *t = w->tensor;
    assert_true(t->storage.dtype == ST_F32 && t->storage.count == 8 && t->storage.key_size == 1 && t->storage.key[0] == '0');
    assert_true(t->offset == 1 && t->rank == 2 && t->shape[0] == 2 && t->shape[1] == 3 && t->count == 6 && t->span == 6);
    assert_null(pickle_get(root, "v"));
    pickle_free(p);
    root = read_ok(&p, PROGRAM(TENSOR("\x00", "K\x02K\x03", "K\x01K\x02"))); /* transposed */
    assert_true(pickle_get(root, "w")->tensor->span == 6);
    pickle_free(p);
    root = read_ok(&p, PROGRAM(TENSOR("\x08", "K\x00K\x03", "K\x03K\x01"))); /* empty, behind the last element */
    assert_true(pickle_get(root, "w")->tensor->count == 0 && pickle_get(root, "w")->tensor->span == 0);
    pickle_free(p);
    root = read_ok(&p, PROGRAM(TENSOR("\x07", "", ""))); /* one number */
    assert_true(pickle_get(root, "w")->tensor->count == 1 && pickle_get(root, "w")->tensor->rank == 0);
    pickle_free(p);
}

/* The same tensor as protocol 4 writes it, wrapped in a parameter. */
static void protocol_4(void **unused)
{
    (void)unused;
    struct pickle *p;
    const struct pickle_value *root = read_ok(
        &p,
        PROGRAM("\x80\x04\x95\x10\0\0\0\0\0\0\0}\x94\x8c\x01w\x94\x8c\x0ctorch._utils\x94\x8c\x12_rebuild_parameter\x94\x93\x94"
                "h\x02\x8c\x12_rebuild_tensor_v2\x94\x93("
                "(\x8c\x07storage\x8c\x05torch\x8c\x0bHalfStorage\x93\x8c\x02"
                "12\x8c\x03"
                "cpuM\x00\x01tQK\x00K\x04\x85J\x01\0\0\0\x85\x88}tR\x88}\x87Rs."));
    const struct pickle_value *w = pickle_get(root, "w");
    assert_true(w && w->kind == PICKLE_TENSOR && w->tensor->storage.dtype == ST_F16 && w->tensor->storage.count == 256);
    assert_true(w->tensor->count == 4 && w->tensor->storage.key_size == 2);
    pickle_free(p);
}

static void scalars(void **unused)
{
    (void)unused;
    struct pickle *p;
    const struct pickle_value *v = read_ok(
        &p,
        PROGRAM("\x80\x02](K\xffM\xff\xffJ\xfe\xff\xff\xff\x8a\x02\x00\x80\x8a\x00G\x3f\xe0\0\0\0\0\0\0N\x88\x89U\x02hi\x8a\x09"
                "123456789e."));
    assert_true(v->kind == PICKLE_LIST && v->count == 11);
    assert_true(v->items[0]->integer == 255 && v->items[1]->integer == 65535 && v->items[2]->integer == -2);
    assert_true(v->items[3]->integer == -32768 && v->items[4]->integer == 0 && v->items[5]->real == 0.5);
    assert_true(v->items[6]->kind == PICKLE_NONE && v->items[7]->integer == 1 && v->items[8]->kind == PICKLE_BOOL);
    assert_true(v->items[9]->kind == PICKLE_TEXT && v->items[9]->size == 2 && v->items[10]->kind == PICKLE_OTHER);
    pickle_free(p);
    v = read_ok(&p, PROGRAM("\x80\x02]q\x00h\x00"
                            "a.")); /* a list that holds itself */
    assert_true(v->count == 1 && v->items[0] == v);
    pickle_free(p);
}

static void foreign_names(void **unused)
{
    (void)unused;
    refuse(PROGRAM("\x80\x02"
                   "cos\nsystem\nX\x04\0\0\0true\x85R."),
           ERR_UNSUPPORTED, "byte 2: it asks for os.system, which");
    refuse(PROGRAM("\x80\x04\x8c\x05posix\x8c\x06system\x93\x8c\x04true\x85R."), ERR_UNSUPPORTED, "posix.system");
    refuse(PROGRAM("\x80\x02"
                   "c__builtin__\neval\nX\x01\0\0\0"
                   "1\x85R."),
           ERR_UNSUPPORTED, "__builtin__.eval");
    refuse(PROGRAM("\x80\x02"
                   "cargparse\nNamespace\n)\x81."),
           ERR_UNSUPPORTED, "argparse.Namespace, which tensors do not need");
    refuse(PROGRAM("\x80\x02"
                   "cargparse\nNamespace\n)\x81."),
           ERR_UNSUPPORTED, "torch.save(model.state_dict()");
    refuse(PROGRAM("\x80\x02"
                   "ctorch\nFloatStorage.__init__\n."),
           ERR_UNSUPPORTED, "torch.FloatStorage.__init__");
    refuse(PROGRAM("\x80\x02"
                   "ctorch._utils\n_rebuild_qtensor\n."),
           ERR_UNSUPPORTED, "torch._utils._rebuild_qtensor");
    refuse(PROGRAM("\x80\x02K\x01K\x02\x93."), ERR_DAMAGED, "a name that is not a text");
    refuse(PROGRAM("\x80\x02K\x01)R."), ERR_DAMAGED, "a call of what is not a function");
    refuse(PROGRAM("\x80\x02"
                   "ctorch\nFloatStorage\n)R."),
           ERR_UNSUPPORTED, "torch.FloatStorage is called");
    refuse(PROGRAM("\x80\x02"
                   "ccollections\nOrderedDict\nK\x01\x85R."),
           ERR_UNSUPPORTED, "collections.OrderedDict is called");
}

/* Every instruction of Python's that the machine does not have. */
static void foreign_instructions(void **unused)
{
    (void)unused;
    static const unsigned char foreign[] = {'0',  '1',  '2',  'F',  'I',  'L',  'P',  'S',  'V',  'd',
                                            'g',  'i',  'l',  'o',  'p',  0x81, 0x82, 0x83, 0x84, 0x8b,
                                            0x8e, 0x8f, 0x90, 0x91, 0x92, 0x96, 0x97, 0x98, 0,    0xff};
    for (size_t i = 0; i < sizeof foreign; i++) {
        const unsigned char program[] = {0x80, 2, foreign[i], '.'};
        refuse(program, sizeof program, ERR_UNSUPPORTED, "byte 2: pickle instruction 0x");
    }
    refuse(PROGRAM("\x80\x06N."), ERR_UNSUPPORTED, "pickle protocol 6");
    refuse(PROGRAM("\x80\x01N."), ERR_UNSUPPORTED, "pickle protocol 1");
}

static void bad_tensors(void **unused)
{
    (void)unused;
    refuse(PROGRAM(TENSOR("\x03", "K\x02K\x03", "K\x03K\x01")), ERR_DAMAGED, "reaches beyond its storage 0 of 8 elements");
    refuse(PROGRAM(TENSOR("\x09", "K\x00", "K\x01")), ERR_DAMAGED, "reaches beyond its storage");
    refuse(PROGRAM(TENSOR("\x00", "K\x09", "K\x00")), ERR_UNSUPPORTED, "an expanded view");
    refuse(PROGRAM(TENSOR("\x00", "K\x02K\x03", "K\x03")), ERR_DAMAGED, "2 dimensions and 1 strides");
    refuse(PROGRAM(TENSOR("\x00", "J\xff\xff\xff\xff", "K\x01")), ERR_DAMAGED, "not a number of elements");
    refuse(PROGRAM(TENSOR("\x00", "K\x02", "J\xff\xff\xff\xff")), ERR_DAMAGED, "not a number of elements");
    refuse(PROGRAM(TENSOR("\x00", "N", "N")), ERR_DAMAGED, "not a number of elements");
#define HUGE_SIDE "\x8a\x08\xff\xff\xff\xff\xff\xff\xff\x7f"
    refuse(PROGRAM(TENSOR("\x00", HUGE_SIDE "K\x02", "K\x01K\x01")), ERR_DAMAGED, "shape is beyond every limit");
    refuse(PROGRAM(TENSOR("\x00", "K\x03", HUGE_SIDE)), ERR_DAMAGED, "strides are beyond every limit");
    refuse(PROGRAM(TENSOR("\x00", "K\x02", HUGE_SIDE)), ERR_DAMAGED, "strides are beyond every limit");
#define ONE   "K\x01"
#define EIGHT ONE ONE ONE ONE ONE ONE ONE ONE
    struct pickle *p;
    read_ok(&p, PROGRAM(TENSOR("\x00", EIGHT, EIGHT)));
    pickle_free(p);
    refuse(PROGRAM(TENSOR("\x00", EIGHT ONE, EIGHT ONE)), ERR_UNSUPPORTED, "9 dimensions, the limit is 8");
    refuse(PROGRAM("\x80\x02N\x85Q."), ERR_DAMAGED, "not a storage");
    refuse(PROGRAM("\x80\x02NQ."), ERR_DAMAGED, "not a storage");
    refuse(PROGRAM(TENSOR_HEAD "NK\x00))" HOOKS "tRs."), ERR_DAMAGED, "not rebuilt from a storage");
    refuse(PROGRAM("\x80\x02(X\x07\0\0\0storagectorch\nFloatStorage\nX\x03\0\0\0../X\x03\0\0\0"
                   "cpuK\x01tQ."),
           ERR_DAMAGED, "letters and digits");
    refuse(PROGRAM("\x80\x02(X\x07\0\0\0storagectorch\nFloatStorage\nX\0\0\0\0X\x03\0\0\0"
                   "cpuK\x01tQ."),
           ERR_DAMAGED, "key has 0 bytes");
    refuse(PROGRAM("\x80\x02(X\x07\0\0\0storagectorch\nFloatStorage\nX\x01\0\0\0"
                   "0X\x03\0\0\0"
                   "cpu" HUGE_SIDE "tQ."),
           ERR_DAMAGED, "elements");
}

static void damage(void **unused)
{
    (void)unused;
    refuse(PROGRAM(""), ERR_DAMAGED, "cut off");
    refuse(PROGRAM("\x80\x02."), ERR_DAMAGED, "0 values on the stack instead of one");
    refuse(PROGRAM("\x80\x02NN."), ERR_DAMAGED, "2 values on the stack");
    refuse(PROGRAM("\x80\x02N(."), ERR_DAMAGED, "on the stack");
    refuse(PROGRAM("\x80\x02t."), ERR_DAMAGED, "no mark");
    refuse(PROGRAM("\x80\x02\x85."), ERR_DAMAGED, "the stack is empty");
    refuse(PROGRAM("\x80\x02N(\x85t."), ERR_DAMAGED, "the stack is empty"); /* not below a mark */
    refuse(PROGRAM("\x80\x02Na."), ERR_DAMAGED, "the stack is empty");
    refuse(PROGRAM("\x80\x02NNa."), ERR_DAMAGED, "not a list");
    refuse(PROGRAM("\x80\x02]NNs."), ERR_DAMAGED, "not a dictionary");
    refuse(PROGRAM("\x80\x02}(Nu."), ERR_DAMAGED, "not a dictionary"); /* a key without a value */
    refuse(PROGRAM("\x80\x02h\x00."), ERR_DAMAGED, "memo 0 was never set");
    refuse(PROGRAM("\x80\x02j\xff\xff\xff\xff."), ERR_DAMAGED, "memo 4294967295 was never set");
    refuse(PROGRAM("\x80\x02]}b."), ERR_UNSUPPORTED, "attributes for what is not a dictionary");
    refuse(PROGRAM("\x80\x02X\xff\xff\xff\xff"
                   "abc."),
           ERR_DAMAGED, "cut off");
    refuse(PROGRAM("\x80\x02\x8d\xff\xff\xff\xff\xff\xff\xff\xff"
                   "abc."),
           ERR_DAMAGED, "cut off");
    refuse(PROGRAM("\x80\x02"
                   "cos.system"),
           ERR_DAMAGED, "cut off in the middle of a name");
}

static void cut_anywhere(void **unused)
{
    (void)unused;
    static const char whole[] = TENSOR("\x01", "K\x02K\x03", "K\x03K\x01");
    for (size_t size = 0; size + 1 < sizeof whole; size++) {
        unsigned char *cut = malloc(size + 1);
        struct pickle *p = NULL;
        struct err e;
        assert_non_null(cut);
        memcpy(cut, whole, size);
        unsigned char *exact = realloc(cut, size ? size : 1); /* a sanitizer sees a step beyond */
        assert_int_equal(pickle_read(exact, size, NULL, &p, &e), size == sizeof whole - 1 ? 0 : -1);
        free(exact);
    }
}

/* One instruction `count` times between a head and a tail. */
static unsigned char *repeat(const char *head, size_t head_size, const char *op, size_t op_size, size_t count, const char *tail,
                             size_t tail_size, size_t *size)
{
    *size = head_size + op_size * count + tail_size;
    unsigned char *bytes = malloc(*size), *at = bytes;
    assert_non_null(bytes);
    memcpy(at, head, head_size);
    at += head_size;
    for (size_t i = 0; i < count; i++, at += op_size)
        memcpy(at, op, op_size);
    memcpy(at, tail, tail_size);
    return bytes;
}

static void limits(void **unused)
{
    (void)unused;
    struct pickle *p;
    size_t size;
    unsigned char *bytes = repeat("N", 1, "(", 1, PICKLE_MARKS_MAX, "t", 1, &size);
    refuse(bytes, size, ERR_DAMAGED, "cut off"); /* all marks fit */
    free(bytes);
    bytes = repeat("N", 1, "(", 1, PICKLE_MARKS_MAX + 1, "t", 1, &size);
    refuse(bytes, size, ERR_TOO_LARGE, "nested deeper than 1000");
    free(bytes);
    bytes = repeat("(", 1, "N", 1, PICKLE_VALUES_MAX - 1, "t.", 2, &size); /* and the tuple */
    read_ok(&p, bytes, size);
    pickle_free(p);
    free(bytes);
    bytes = repeat("(", 1, "N", 1, PICKLE_VALUES_MAX, "t.", 2, &size);
    refuse(bytes, size, ERR_TOO_LARGE, "more than 1000000 values");
    free(bytes);
    bytes = repeat("Nq\0", 3, "h\0", 2, PICKLE_STACK_MAX - 1, "", 0, &size);
    refuse(bytes, size, ERR_DAMAGED, "cut off");
    free(bytes);
    bytes = repeat("Nq\0", 3, "h\0", 2, PICKLE_STACK_MAX, "", 0, &size);
    refuse(bytes, size, ERR_TOO_LARGE, "more than 1000000 values on the stack");
    free(bytes);
    read_ok(&p, PROGRAM("Nr\x3f\x42\x0f\0.")); /* 999999 */
    pickle_free(p);
    refuse(PROGRAM("Nr\x40\x42\x0f\0."), ERR_TOO_LARGE, "memo 1000000");
    bytes = repeat("N", 1, "\x80\x02", 2, PICKLE_BYTES_MAX / 2 - 1, ".", 1, &size);
    read_ok(&p, bytes, size);
    pickle_free(p);
    free(bytes);
    struct err e;
    bytes = repeat("N.", 2, "x", 1, PICKLE_BYTES_MAX - 1, "", 0, &size);
    assert_int_equal(pickle_read(bytes, size, NULL, &p, &e), -1);
    assert_non_null(strstr(e.text, "16777217 bytes of pickle, the limit is 16777216"));
    free(bytes);
}

static void no_memory(void **unused)
{
    (void)unused;
    int failed = 0;
    for (int n = 0;; n++) {
        struct pickle *p = NULL;
        struct err e = {.text = ""};
        scarce_left = n;
        const int r = pickle_read(PROGRAM(TENSOR("\x01", "K\x02K\x03", "K\x03K\x01")), NULL, &p, &e);
        scarce_left = -1;
        if (r == 0) {
            pickle_free(p);
            break;
        }
        assert_true(e.code == ERR_MEMORY && p == NULL);
        failed++;
    }
    assert_true(failed > 20);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_tensor),      cmocka_unit_test(protocol_4),           cmocka_unit_test(scalars),
        cmocka_unit_test(foreign_names), cmocka_unit_test(foreign_instructions), cmocka_unit_test(bad_tensors),
        cmocka_unit_test(damage),        cmocka_unit_test(cut_anywhere),         cmocka_unit_test(limits),
        cmocka_unit_test(no_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
