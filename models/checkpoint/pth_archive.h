// SPDX-License-Identifier: MIT
//
// pth_archive.h - private to pth.c: the two files that torch.save has written, a zip archive and, before PyTorch 1.6, one pickle
// after the other.

#ifndef MODELS_CHECKPOINT_PTH_ARCHIVE_H
#define MODELS_CHECKPOINT_PTH_ARCHIVE_H

#include "models/checkpoint/pickle.h"

/* check: the storage is there and has the elements that the pickle says. read: that many bytes of it, after a check. */
struct pth_archive_kind {
    int (*check)(const void *data, const struct pickle_storage *s, struct err *e);
    int (*read)(const void *data, const struct pickle_storage *s, uint64_t offset, void *out, uint64_t bytes, struct err *e);
    void (*close)(void *data);
};

struct pth_archive {
    const struct pth_archive_kind *kind; /* NULL: not open */
    void *data;
    unsigned char *pickled; /* what the pickle points into */
    struct pickle *pickle;  /* of the checkpoint's object */
};

/* fd is taken, on failure too; on failure *out is closed. Errors name the place in the file, not the file. */
int pth_zip_open(int fd, uint64_t file_bytes, struct pth_archive *out, struct err *e);
int pth_legacy_open(int fd, uint64_t file_bytes, struct pth_archive *out, struct err *e);
void pth_archive_close(struct pth_archive *a);

/* What a file from before PyTorch 1.6 starts with: a magic number as a pickle. */
#define PTH_LEGACY_MAGIC                                                                                                         \
    "\x80\x02\x8a\nl\xfc\x9c"                                                                                                    \
    "F\xf9 j\xa8P\x19."
enum { PTH_LEGACY_MAGIC_BYTES = 15 };

#endif
