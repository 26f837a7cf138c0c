// SPDX-License-Identifier: MIT
//
// replay.c - the main of a fuzz target where there is no fuzzing engine: runs it over stored inputs. Arguments are files or
// directories of files; without any, fuzz_NAME takes $srcdir/tests/fuzz/NAME. With an engine instead of
// this file: `make fuzz`.

#include <dirent.h>
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* From a block of exactly that size, so that a sanitizer sees a step beyond. */
static int replay_file(const char *path, size_t size)
{
    FILE *f = fopen(path, "rb");
    uint8_t *data = malloc(size ? size : 1);
    int ok = f && data && fread(data, 1, size, f) == size;
    if (ok)
        LLVMFuzzerTestOneInput(data, size);
    else
        fprintf(stderr, "%s: cannot be read\n", path);
    free(data);
    if (f)
        fclose(f);
    return ok ? 1 : -1;
}

/* Returns the number of inputs, -1 when one could not be read. */
static int replay(const char *path)
{
    struct stat st;
    DIR *dir;
    int total = 0;
    if (stat(path, &st) < 0) {
        fprintf(stderr, "%s: %s\n", path, strerror(errno));
        return -1;
    }
    if (!S_ISDIR(st.st_mode))
        return S_ISREG(st.st_mode) ? replay_file(path, (size_t)st.st_size) : 0;
    if (!(dir = opendir(path)))
        return -1;
    for (struct dirent *item; total >= 0 && (item = readdir(dir)) != NULL;) {
        char name[4096];
        if (item->d_name[0] == '.')
            continue;
        snprintf(name, sizeof name, "%s/%s", path, item->d_name);
        int n = replay(name);
        total = n < 0 ? -1 : total + n;
    }
    closedir(dir);
    return total;
}

int main(int argc, char **argv)
{
    int total = 0;
    if (argc < 2) {
        const char *source = getenv("srcdir"), *slash = strrchr(argv[0], '/'), *target = slash ? slash + 1 : argv[0];
        char path[4096];
        if (strncmp(target, "fuzz_", 5) != 0) {
            fprintf(stderr, "usage: %s FILE|DIRECTORY...\n", argv[0]);
            return 2;
        }
        snprintf(path, sizeof path, "%s/tests/fuzz/%s", source ? source : ".", target + 5);
        total = replay(path);
    }
    for (int i = 1; i < argc && total >= 0; i++) {
        int n = replay(argv[i]);
        total = n < 0 ? -1 : total + n;
    }
    printf("%d inputs\n", total);
    return total > 0 ? 0 : 1; /* no input at all is a test that does nothing */
}
