// SPDX-License-Identifier: MIT
//
// ctl_images.c - files and samples of a data set -> the pixels that a network wants.

#include "daemon/ctl.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define PREPROCESS_FILE_MAX 65536

int ctl_read_file(const char *path, size_t max, uint8_t **bytes, size_t *size, struct err *e)
{
    struct stat st;
    int fd = open(path, O_RDONLY | O_CLOEXEC), rc = -1;
    uint8_t *buffer = NULL;
    if (fd < 0)
        return err_set(e, errno == ENOENT ? ERR_NOT_FOUND : ERR_IO, "cannot open %s: %s", path, strerror(errno));
    if (fstat(fd, &st) != 0) {
        err_set(e, ERR_IO, "cannot read %s: %s", path, strerror(errno));
    } else if (!S_ISREG(st.st_mode)) {
        err_set(e, ERR_INPUT, "%s is not a file", path);
    } else if ((uint64_t)st.st_size > max) {
        err_set(e, ERR_TOO_LARGE, "%s has %lld bytes, the limit is %zu", path, (long long)st.st_size, max);
    } else if (!(buffer = malloc((size_t)st.st_size + 1))) {
        err_set(e, ERR_MEMORY, "no memory for the %lld bytes of %s", (long long)st.st_size, path);
    } else {
        size_t have = 0;
        ssize_t n = 1;
        while (have < (size_t)st.st_size && (n = read(fd, buffer + have, (size_t)st.st_size - have)) > 0)
            have += (size_t)n;
        if (n < 0) {
            err_set(e, ERR_IO, "cannot read %s: %s", path, strerror(errno));
        } else {
            buffer[have] = '\0';
            *bytes = buffer;
            *size = have;
            buffer = NULL;
            rc = 0;
        }
    }
    free(buffer);
    close(fd);
    return rc;
}

int ctl_preprocess(const char *want, struct preprocess *out, struct err *e)
{
    size_t length = strlen(want);
    if (length < 5 || strcmp(want + length - 5, ".json"))
        return preprocess_preset(want, out, e);
    uint8_t *text;
    size_t size;
    if (ctl_read_file(want, PREPROCESS_FILE_MAX, &text, &size, e) != 0)
        return -1;
    int rc = strlen((char *)text) == size ? preprocess_from_json((char *)text, out, e)
                                          : err_set(e, ERR_INPUT, "it holds a NUL character");
    free(text);
    return rc == 0 ? 0 : err_prefix(e, "%s", want);
}

/* Preprocessing without resize and crop keeps the image's size, which then has to be the network's. */
static int fit(const struct image *i, const struct preprocess *p, int w, int h, uint8_t *rgb, struct err *e)
{
    int have_w, have_h;
    preprocess_output_size(p, i->width, i->height, &have_w, &have_h);
    if (have_w != w || have_h != h)
        return err_set(e, ERR_INPUT, "the network takes %dx%d pixels, its preprocessing makes %dx%d of this image", w, h, have_w,
                       have_h);
    return image_preprocess(i, p, rgb, e);
}

int ctl_pixels_decode(const uint8_t *bytes, size_t size, const struct preprocess *p, int w, int h, uint8_t *rgb, struct err *e)
{
    struct image image = {0};
    if (image_decode(bytes, size, &image_limits_default, p, &image, e) != 0)
        return -1;
    int rc = fit(&image, p, w, h, rgb, e);
    image_free(&image);
    return rc;
}

static int name_image(const struct sample *s, struct err *e)
{
    return err_prefix(e, "%s%s%s", s->folder ? s->folder : "", s->folder ? "/" : "", s->name);
}

int ctl_pixels_make(const struct sample *s, const struct preprocess *p, int w, int h, uint8_t *rgb, struct err *e)
{
    if (!s->pixels)
        return ctl_pixels_decode(s->bytes, s->size, p, w, h, rgb, e);
    /* image_preprocess only reads the pixels, which stay the data set's. */
    struct image raw = {.rgb = (uint8_t *)(uintptr_t)s->pixels, .width = s->width, .height = s->height};
    return fit(&raw, p, w, h, rgb, e);
}

int ctl_pixels_read(struct dataset *d, int i, const struct preprocess *p, int w, int h, struct sample *sample, uint8_t *rgb,
                    struct err *e)
{
    if (dataset_read(d, i, sample, e) != 0)
        return -1;
    return ctl_pixels_make(sample, p, w, h, rgb, e) == 0 ? 0 : name_image(sample, e);
}

int ctl_check_label(const struct sample *s, int classes, struct err *e)
{
    if (s->label < classes)
        return 0;
    err_set(e, ERR_INPUT, "its label is %d, the network's classes are 0 to %d", s->label, classes - 1);
    return name_image(s, e);
}
