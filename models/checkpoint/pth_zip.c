// SPDX-License-Identifier: MIT

#include "config.h" /* HAVE_LIBZIP, 64-bit file offsets */

#include "models/checkpoint/pth_archive.h"

#include <unistd.h>

#ifndef HAVE_LIBZIP

int pth_zip_open(int fd, uint64_t file_bytes, struct pth_archive *out, struct err *e)
{
    (void)file_bytes;
    (void)out;
    close(fd);
    return err_set(
        e, ERR_UNSUPPORTED,
        "a PyTorch checkpoint, and this build is without libzip, which reads them: install libzip-dev, configure and build "
        "again, or save the weights as .safetensors");
}

#else

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zip.h>

#include "models/checkpoint/pth.h"

struct archive {
    zip_t *zip;
    uint64_t file_bytes;
    char prefix[256]; /* of all entries: "archive/" */
};

/* Index and size of an entry that is stored as it is; -1 with the error set. */
static int64_t find_entry(const struct archive *a, const char *name, uint64_t *bytes, struct err *e)
{
    char path[320];
    zip_stat_t st;
    snprintf(path, sizeof path, "%s%s", a->prefix, name);
    const zip_int64_t i = zip_name_locate(a->zip, path, ZIP_FL_ENC_RAW);
    const zip_uint64_t need = ZIP_STAT_SIZE | ZIP_STAT_COMP_METHOD | ZIP_STAT_ENCRYPTION_METHOD;
    if (i < 0)
        return err_set(e, ERR_DAMAGED, "the archive has no entry %s", path);
    if (zip_stat_index(a->zip, (zip_uint64_t)i, 0, &st) != 0 || (st.valid & need) != need)
        return err_set(e, ERR_DAMAGED, "entry %s: %s", path, zip_strerror(a->zip));
    if (st.encryption_method != ZIP_EM_NONE)
        return err_set(e, ERR_UNSUPPORTED, "entry %s is encrypted", path);
    if (st.comp_method != ZIP_CM_STORE)
        return err_set(e, ERR_UNSUPPORTED, "entry %s is compressed, which torch.save does not do: pack it again without (zip -0)",
                       path);
    if (st.size > a->file_bytes)
        return err_set(e, ERR_DAMAGED, "entry %s claims %llu bytes, more than the file", path, (unsigned long long)st.size);
    *bytes = st.size;
    return i;
}

static int read_part(zip_file_t *f, void *out, uint64_t bytes, struct err *e)
{
    for (char *at = out; bytes;) {
        const zip_int64_t n = zip_fread(f, at, bytes < 1 << 30 ? bytes : 1 << 30);
        if (n <= 0)
            return err_set(e, ERR_DAMAGED, "cannot be read: %s", n < 0 ? zip_file_strerror(f) : "it ends too early");
        at += n;
        bytes -= (uint64_t)n;
    }
    return 0;
}

/* Bytes of an entry; one that is read to its end is checked against its CRC. */
static int read_entry(const struct archive *a, int64_t entry, uint64_t offset, void *out, uint64_t bytes, struct err *e)
{
    char end;
    zip_file_t *f = zip_fopen_index(a->zip, (zip_uint64_t)entry, 0);
    if (!f)
        return err_set(e, ERR_DAMAGED, "cannot be read: %s", zip_strerror(a->zip));
    int bad = 0;
    if (offset && zip_fseek(f, (zip_int64_t)offset, SEEK_SET) != 0)
        bad = err_set(e, ERR_DAMAGED, "cannot be read: %s", zip_file_strerror(f));
    if (!bad)
        bad = read_part(f, out, bytes, e);
    if (!bad && zip_fread(f, &end, 1) < 0)
        bad = err_set(e, ERR_DAMAGED, "cannot be read: %s", zip_file_strerror(f));
    zip_fclose(f);
    return bad;
}

/* The archive's own name is in front of all entries: whatever stands before /data.pkl. */
static int find_prefix(struct archive *a, struct err *e)
{
    static const char tail[] = "/data.pkl";
    const zip_int64_t count = zip_get_num_entries(a->zip, 0);
    if (count > PTH_ENTRIES_MAX)
        return err_set(e, ERR_TOO_LARGE, "the archive has %lld entries, the limit is %d", (long long)count, PTH_ENTRIES_MAX);
    for (zip_int64_t i = 0; i < count; i++) {
        const char *name = zip_get_name(a->zip, (zip_uint64_t)i, ZIP_FL_ENC_RAW);
        const size_t length = name ? strlen(name) : 0, n = sizeof tail - 1;
        if (length <= n || strcmp(name + length - n, tail) || memchr(name, '/', length - n) || length - n + 2 > sizeof a->prefix)
            continue;
        snprintf(a->prefix, sizeof a->prefix, "%.*s/", (int)(length - n), name);
        return 0;
    }
    return err_set(e, ERR_UNSUPPORTED, "a zip archive without a data.pkl: not a checkpoint of PyTorch");
}

static int has_entry(const struct archive *a, const char *name)
{
    char path[320];
    snprintf(path, sizeof path, "%s%s", a->prefix, name);
    return zip_name_locate(a->zip, path, ZIP_FL_ENC_RAW) >= 0;
}

static int check_conventions(const struct archive *a, struct err *e)
{
    uint64_t bytes;
    char order[8] = "";
    if (has_entry(a, "constants.pkl"))
        return err_set(e, ERR_UNSUPPORTED,
                       "a TorchScript program (torch.jit.save), not weights alone: "
                       "torch.save(torch.jit.load(FILE).state_dict(), 'weights.pth')");
    if (!has_entry(a, "byteorder"))
        return 0;
    const int64_t entry = find_entry(a, "byteorder", &bytes, e);
    if (entry < 0 || (bytes < sizeof order && read_entry(a, entry, 0, order, bytes, e) < 0))
        return -1;
    return strcmp(order, "little") == 0 ? 0 : err_set(e, ERR_UNSUPPORTED, "byte order '%s': only little endian is read", order);
}

static int read_pickle(const struct archive *a, struct pth_archive *out, struct err *e)
{
    uint64_t bytes;
    const int64_t entry = find_entry(a, "data.pkl", &bytes, e);
    if (entry < 0)
        return -1;
    if (bytes > PICKLE_BYTES_MAX)
        return err_set(e, ERR_TOO_LARGE, "%sdata.pkl has %llu bytes, the limit is %d", a->prefix, (unsigned long long)bytes,
                       PICKLE_BYTES_MAX);
    out->pickled = malloc((size_t)bytes + 1);
    if (!out->pickled)
        return err_set(e, ERR_MEMORY, "no memory for %sdata.pkl", a->prefix);
    if (read_entry(a, entry, 0, out->pickled, bytes, e) < 0 ||
        pickle_read(out->pickled, (size_t)bytes, NULL, &out->pickle, e) < 0)
        return err_prefix(e, "%.100sdata.pkl", a->prefix);
    return 0;
}

/* The index of a storage's entry, which has exactly its elements; or -1. */
static int64_t storage_entry(const struct archive *a, const struct pickle_storage *s, struct err *e)
{
    char name[64];
    uint64_t bytes;
    snprintf(name, sizeof name, "data/%.*s", (int)s->key_size, s->key);
    const int64_t entry = find_entry(a, name, &bytes, e);
    const uint64_t expected = (uint64_t)s->count * st_dtype_bytes(s->dtype);
    if (entry >= 0 && bytes != expected)
        return err_set(e, ERR_DAMAGED, "entry %s%s has %llu bytes, its tensor needs %llu", a->prefix, name,
                       (unsigned long long)bytes, (unsigned long long)expected);
    return entry;
}

static int check(const void *data, const struct pickle_storage *s, struct err *e)
{
    return storage_entry(data, s, e) < 0 ? -1 : 0;
}

static int read_storage(const void *data, const struct pickle_storage *s, uint64_t offset, void *out, uint64_t bytes,
                        struct err *e)
{
    const int64_t entry = storage_entry(data, s, e);
    return entry < 0 ? -1 : read_entry(data, entry, offset, out, bytes, e);
}

static void close_zip(void *data)
{
    struct archive *a = data;
    zip_discard(a->zip);
    free(a);
}

int pth_zip_open(int fd, uint64_t file_bytes, struct pth_archive *out, struct err *e)
{
    static const struct pth_archive_kind kind = {check, read_storage, close_zip};
    int code;
    struct archive *a = calloc(1, sizeof *a);
    zip_t *zip = a ? zip_fdopen(fd, 0, &code) : NULL;
    if (!zip) {
        close(fd);
        if (!a)
            return err_set(e, ERR_MEMORY, "no memory to open a file");
        free(a);
        zip_error_t error;
        zip_error_init_with_code(&error, code);
        err_set(e, code == ZIP_ER_MEMORY ? ERR_MEMORY : ERR_DAMAGED, "not a whole zip archive: %s", zip_error_strerror(&error));
        zip_error_fini(&error);
        return -1;
    }
    a->zip = zip;
    a->file_bytes = file_bytes;
    *out = (struct pth_archive){.kind = &kind, .data = a};
    if (find_prefix(a, e) == 0 && check_conventions(a, e) == 0 && read_pickle(a, out, e) == 0)
        return 0;
    pth_archive_close(out);
    return -1;
}

#endif
