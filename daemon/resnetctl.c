// SPDX-License-Identifier: MIT
//
// resnetctl.c - the companion of resnetd on the command line: a table of subcommands and the walk to one of them.

#include "config.h"

#include "daemon/ctl.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static const struct command {
    const char *name;
    int (*run)(int argc, char **argv);
    const char *summary;
} commands[] = {
    {"import", ctl_import, "turn a checkpoint into a model file"},
    {"export", ctl_export, "write a model file as ONNX for other runtimes"},
    {"train", ctl_train, "train a network, fine-tune one, or teach one to be int8"},
    {"quantize", ctl_quantize, "make the fp16, hybrid or int8 file of a model"},
    {"eval", ctl_eval, "accuracy of models on images, and their agreement"},
    {"bench", ctl_bench, "how fast models run here"},
    {"run", ctl_run, "classify images without a daemon"},
    {"inspect", ctl_inspect, "what a model file holds; checks it"},
    {"status", ctl_status, "what a running daemon is doing"},
    {"top", ctl_top, "the same as a page that renews itself: rates, times, memory, temperature"},
    {"predict", ctl_predict, "classify images with a running daemon"},
    {"precision", ctl_precision, "show or switch the precision of a running daemon"},
    {"reload", ctl_reload, "have a running daemon read its configuration and models again"},
    {"drain", ctl_drain, "have a running daemon finish its requests and stop"},
    {NULL, NULL, NULL},
};

static void usage(FILE *to)
{
    fprintf(to, "usage: resnetctl COMMAND ...\n\n");
    for (const struct command *c = commands; c->name; c++)
        fprintf(to, "  %-10s %s\n", c->name, c->summary);
    fprintf(to, "\n`resnetctl COMMAND --help` explains a command, `man resnetctl` all of them.\n"
                "Exit status: 0 done, 1 failed, 2 wrong usage.\n");
}

/* A result that did not reach its file is not done. */
static int finish(int status)
{
    if (fflush(stdout) != 0 || ferror(stdout)) {
        fprintf(stderr, "resnetctl: cannot write the output: %s\n", strerror(errno));
        return CTL_FAILED;
    }
    return status;
}

int main(int argc, char **argv)
{
    if (argc < 2) {
        usage(stderr);
        return CTL_USAGE;
    }
    const char *name = argv[1];
    if (!strcmp(name, "--help") || !strcmp(name, "-h") || !strcmp(name, "help")) {
        usage(stdout);
        return finish(CTL_DONE);
    }
    if (!strcmp(name, "--version") || !strcmp(name, "-V")) {
        printf("resnetctl %s\n", PACKAGE_VERSION);
        return finish(CTL_DONE);
    }
    for (const struct command *c = commands; c->name; c++)
        if (!strcmp(name, c->name))
            return finish(c->run(argc - 1, argv + 1));
    fprintf(stderr, "resnetctl: there is no command %s\n", name);
    usage(stderr);
    return CTL_USAGE;
}
