// SPDX-License-Identifier: MIT

#include "tests/files.h"

#include <dirent.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static void stop(const char *what)
{
    perror(what);
    exit(99);
}

char *files_make_dir(void)
{
    const char *base = getenv("TMPDIR");
    char *dir = NULL;
    if (asprintf(&dir, "%s/resnetd-test-XXXXXX", base && *base ? base : "/tmp") < 0 || !mkdtemp(dir))
        stop("mkdtemp");
    return dir;
}

static int remove_one(const char *path, const struct stat *st, int flag, struct FTW *ftw)
{
    (void)st, (void)flag, (void)ftw;
    return remove(path);
}

void files_remove_dir(char *dir)
{
    nftw(dir, remove_one, 8, FTW_DEPTH | FTW_PHYS);
    free(dir);
}

const char *files_path(const char *dir, const char *name)
{
    static char buffers[4][4096];
    static int turn;
    char *buffer = buffers[turn++ % 4];
    snprintf(buffer, sizeof buffers[0], "%s/%s", dir, name);
    return buffer;
}

void files_write(const char *dir, const char *name, const void *data, size_t size)
{
    FILE *f = fopen(files_path(dir, name), "wb");
    if (!f || fwrite(data, 1, size, f) != size || fclose(f) != 0)
        stop(name);
}

char *files_read(const char *path, size_t *size)
{
    FILE *f = fopen(path, "rb");
    char *data = NULL;
    struct stat st;
    if (f && fstat(fileno(f), &st) == 0 && (data = malloc((size_t)st.st_size + 1)) != NULL) {
        *size = fread(data, 1, (size_t)st.st_size, f);
        data[*size] = '\0';
    }
    if (f)
        fclose(f);
    return data;
}

int files_count(const char *dir)
{
    int n = 0;
    DIR *d = opendir(dir);
    if (!d)
        stop(dir);
    for (struct dirent *item; (item = readdir(d)) != NULL;)
        n += strcmp(item->d_name, ".") != 0 && strcmp(item->d_name, "..") != 0;
    closedir(d);
    return n;
}

const char *files_shared(const char *variable, const char *folder)
{
    static char path[4096];
    const char *value = getenv(variable), *source = getenv("srcdir");
    struct stat st;
    if (value && *value)
        snprintf(path, sizeof path, "%s", value);
    else
        snprintf(path, sizeof path, "%s/../shared/%s", source ? source : ".", folder);
    if (stat(path, &st) == 0 && S_ISDIR(st.st_mode))
        return path;
    printf("SKIP: no directory %s (set %s)\n", path, variable);
    return NULL;
}
