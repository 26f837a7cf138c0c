// SPDX-License-Identifier: MIT
//
// Any bytes as a tar archive: refused with a reason, or every member lies inside it; and as a data set every image can be read.

#include "models/dataset.h"
#include "models/network.h"
#include "models/tar.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/fuzz/memory_file.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int see(void *user, const struct tar_member *m, struct err *e)
{
    const uint64_t bytes = *(const uint64_t *)user;
    (void)e;
    if (m->name[0] == '\0' || strlen(m->name) > TAR_NAME_MAX || m->offset > bytes || m->size > bytes - m->offset ||
        (m->kind != TAR_FILE && (m->offset || m->size)))
        abort();
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct err e = {.text = ""};
    struct dataset *d;
    char **names;
    uint64_t bytes = size;
    int count, fd;
    const char *path = memory_file(data, size, &fd);
    if (tar_walk(fd, bytes, see, &bytes, &e) < 0 && e.text[0] == '\0')
        abort();
    if (dataset_class_names(path, &names, &count, &e) == 0)
        labels_free(names, count);
    if (dataset_open(path, NULL, 0, &d, &e) == 0) {
        for (int i = 0; i < dataset_count(d) && i < 1000; i++) {
            struct sample s;
            if (dataset_read(d, i, &s, &e) == 0 && s.bytes && s.size > size)
                abort();
        }
        dataset_close(d);
    }
    return 0;
}
