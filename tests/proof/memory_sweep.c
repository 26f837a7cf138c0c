// SPDX-License-Identifier: MIT
//
// memory_sweep.c - refuses a daemon its n-th allocation, for n = 1, 2, ... until whatever it was doing needs no more: once, and
// from then on. Nothing may crash or hang; what is asked fails with a reason or succeeds; afterwards, with memory again,
// everything works. In the manner of SQLite's out-of-memory tests.
//
//     memory_sweep NO_MEMORY.SO PORT IMAGE STRIDE RESNETD MODEL OPTIONS...
//
// Prints lines "NAME: asked, reached, pass|fail". STRIDE: every how many-th n, at start and stop, which need a daemon each.

#include "tests/proof/client.h"
#include "tests/proof/no_memory.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

enum { HANG_S = 20, ARGS_MAX = 32 };

static struct no_memory *control;
static char **daemon_args, control_path[] = "/tmp/no_memory.XXXXXX", log_path[] = "/tmp/no_memory_log.XXXXXX";
static const char *shim;
static struct client client = {.fd = -1, .patience_s = HANG_S};
static int failures, pid;
static char *image, *json, *form;
static size_t image_size, form_size;
static char *logits[2]; /* of the image in fp16 and int8 */

static void bad(const char *what, const char *mode, long n, const char *why)
{
    if (failures++ < 30)
        printf("%s, %s %ld: %s; %.200s\n", what, mode, n, why, client.reply ? client.reply : "");
}

static void arm(long n, int from)
{
    atomic_store(&control->armed, 0);
    atomic_store(&control->n, n);
    atomic_store(&control->from, from);
    atomic_store(&control->counted, 0);
    atomic_store(&control->refused, 0);
    atomic_store(&control->armed, 1);
}

static void disarm(void)
{
    atomic_store(&control->armed, 0);
}

/* ---- a daemon ---- */

static void start(void)
{
    fflush(stdout);
    pid = fork();
    if (pid != 0)
        return;
    const int log = open(log_path, O_WRONLY | O_TRUNC | O_CREAT, 0600);
    dup2(log, 1);
    dup2(log, 2);
    setenv("LD_PRELOAD", shim, 1);
    setenv(NO_MEMORY_FILE, control_path, 1);
    execv(daemon_args[0], daemon_args);
    _exit(127);
}

static int status_of(int *status, int wait_ms)
{
    for (int i = 0; i <= wait_ms; i += 5) {
        if (waitpid(pid, status, WNOHANG) == pid)
            return 1;
        usleep(5000);
    }
    return 0;
}

/* 1 when it serves, 0 when it has ended, -1 when it does neither. */
static int wait_ready(int *status)
{
    for (int i = 0; i < HANG_S * 100; i++) {
        client_hang_up(&client);
        if (client_ask(&client, "GET", "/livez", NULL, "", 0) == 200)
            return 1;
        if (status_of(status, 5))
            return 0;
    }
    return -1;
}

/* Ends it by SIGTERM; 1 when it ended well. */
static int stop(const char *what, const char *mode, long n)
{
    int status = 0;
    client_hang_up(&client);
    kill(pid, SIGTERM);
    if (!status_of(&status, HANG_S * 1000)) {
        bad(what, mode, n, "did not end");
        kill(pid, SIGKILL);
        waitpid(pid, &status, 0);
        return 0;
    }
    if (!WIFEXITED(status)) {
        bad(what, mode, n, "ended by a signal");
        return 0;
    }
    return WEXITSTATUS(status) == 0;
}

/* ---- what is asked of it ---- */

static int ask_predict(void)
{
    return client_ask(&client, "POST", "/predict?logits=1", "image/jpeg", image, image_size);
}

static int ask_json(void)
{
    return client_ask(&client, "POST", "/predict", "application/json", json, strlen(json));
}

static int ask_form(void)
{
    return client_ask(&client, "POST", "/predict", "multipart/form-data; boundary=x", form, form_size);
}

static int get(const char *path)
{
    return client_ask(&client, "GET", path, NULL, "", 0);
}

static int ask_metrics(void)
{
    return get("/metrics");
}

static int ask_status(void)
{
    return get("/v1/status");
}

static int ask_models(void)
{
    return get("/models");
}

static int ask_precision(void)
{
    return get("/precision");
}

static int switch_to(const char *precision)
{
    char body[64];
    const int n = snprintf(body, sizeof body, "{\"precision\":\"%s\"}", precision);
    return client_ask(&client, "PUT", "/precision", "application/json", body, (size_t)n);
}

static int ask_switch(void)
{
    return switch_to("fp16");
}

static int switch_back(void)
{
    return switch_to("int8");
}

static int ask_reload(void)
{
    return client_ask(&client, "POST", "/v1/reload", "application/json", "", 0);
}

static const struct operation {
    const char *name;
    int (*ask)(void);
    int (*undo)(void); /* brings back what it changed; NULL: nothing */
    int failure;       /* status beside 200 and 503 that says so honestly; a connection that just ends does, too */
} operations[] = {
    {"POST /predict", ask_predict, NULL, 503},    {"POST /predict, JSON", ask_json, NULL, 503},
    {"POST /predict, form", ask_form, NULL, 503}, {"GET /metrics", ask_metrics, NULL, 503},
    {"GET /v1/status", ask_status, NULL, 503},    {"GET /models", ask_models, NULL, 503},
    {"GET /precision", ask_precision, NULL, 503}, {"PUT /precision", ask_switch, switch_back, 503},
    {"POST /v1/reload", ask_reload, NULL, 409},
};

/* The image's logits are those of the precision that answers: whole, whatever failed before. */
static int predicts(void)
{
    const int status = ask_predict();
    char *at = status == 200 ? strstr(client.reply, "\"logits\":[") : NULL;
    const int fp16 = at && strstr(client.reply, "\"precision\":\"fp16\"") != NULL;
    return at && strncmp(at, logits[!fp16], strlen(logits[!fp16])) == 0;
}

static void sweep(const struct operation *o)
{
    static const char *const modes[] = {"once", "from"};
    long count, tried = 0, came[2] = {0, 0};
    const int before = failures;
    arm(0, 0);
    client_hang_up(&client);
    if (o->ask() != 200)
        bad(o->name, "without faults", 0, "not 200");
    usleep(20000);
    disarm();
    count = atomic_load(&control->counted);
    if (o->undo)
        o->undo();
    for (int from = 0; from < 2; from++)
        for (long n = 1; n <= count + 3; n++) {
            int status = 0;
            tried++;
            client_hang_up(&client);
            arm(n, from);
            const int64_t begin = now_us();
            status = o->ask();
            disarm();
            if (status_of(&status, 0)) {
                bad(o->name, modes[from], n, "the daemon died");
                exit(1);
            }
            came[status == 200]++;
            if (status != 200 && status != 503 && status != o->failure && status != -1)
                bad(o->name, modes[from], n, "a failure of another kind than no memory");
            if (now_us() - begin > (HANG_S - 1) * 1000000LL)
                bad(o->name, modes[from], n, "no answer for too long");
            client_hang_up(&client);
            if (!predicts())
                bad(o->name, modes[from], n, "wrong or no prediction afterwards");
            if (o->ask() != 200 || (o->undo && o->undo() != 200))
                bad(o->name, modes[from], n, "fails afterwards, with memory");
        }
    printf("no memory, %s: each of its %ld allocations, once and from then on, no crash, no hang, works afterwards; reached %ld "
           "tries, %ld "
           "answered, %ld refused, %s\n",
           o->name, count, tried, came[1], came[0], failures == before ? "pass" : "fail");
}

static void sweep_start(long stride)
{
    const int before = failures;
    long up = 0, refused = 0, tries = 0, count;
    int status = 0;
    arm(0, 0);
    start();
    wait_ready(&status);
    count = atomic_load(&control->counted);
    stop("start", "without faults", 0);
    for (int from = 0; from < 2; from++)
        for (long n = 1 + from * stride / 2; n <= count; n += stride) {
            const char *mode = from ? "from" : "once";
            char log[400] = "";
            tries++;
            arm(n, from);
            start();
            int state = wait_ready(&status);
            disarm();
            if (state < 0 && from) /* it lives, and cannot answer without memory: now it can */
                state = wait_ready(&status);
            FILE *f = fopen(log_path, "re");
            if (f) {
                log[fread(log, 1, sizeof log - 1, f)] = '\0';
                fclose(f);
            }
            if (state < 0) {
                bad("start", mode, n, "neither serves nor ends");
                kill(pid, SIGKILL);
                waitpid(pid, &status, 0);
            } else if (state == 0) {
                refused++;
                if (!WIFEXITED(status) || WEXITSTATUS(status) == 0)
                    bad("start", mode, n, "ended by a signal, or as if all were well");
                else if (!*log)
                    bad("start", mode, n, "ended without a word");
            } else {
                up++;
                if (!predicts())
                    bad("start", mode, n, "serves, but not predictions");
                if (!stop("start", mode, n))
                    bad("start", mode, n, "did not end well");
            }
        }
    printf("no memory, start: its %ld allocations, every %ld., once and from then on: serves, or ends with a message; reached "
           "%ld tries, %ld "
           "served, %ld ended, %s\n",
           count, stride, tries, up, refused, failures == before ? "pass" : "fail");
}

/* SIGTERM without memory, while a connection is kept. */
static void sweep_stop(void)
{
    const int before = failures;
    long tries = 0, count = 1;
    for (int from = 0; from < 2; from++)
        for (long n = 0; n <= count; n++) {
            int status = 0;
            disarm();
            start();
            if (wait_ready(&status) != 1 || !predicts()) {
                bad("stop", "before", n, "does not serve");
                return;
            }
            arm(n, from);
            const int well = stop("stop", from ? "from" : "once", n);
            if (!well)
                bad("stop", from ? "from" : "once", n, "did not end well");
            if (n == 0)
                count = atomic_load(&control->counted);
            tries++;
        }
    disarm();
    printf("no memory, stop: each of its %ld allocations, once and from then on: ends with status 0; reached %ld tries, %s\n",
           count, tries, failures == before ? "pass" : "fail");
}

static void take_references(void)
{
    for (int i = 0; i < 2; i++) {
        char *at;
        if (switch_to(i ? "int8" : "fp16") != 200 || ask_predict() != 200 || !(at = strstr(client.reply, "\"logits\":["))) {
            printf("no reference: %s\n", client.reply);
            exit(1);
        }
        *strchr(at, ']') = '\0';
        logits[i] = strdup(at);
    }
}

int main(int argc, char **argv)
{
    static char listen[40], *args[ARGS_MAX];
    if (argc < 7 || argc > ARGS_MAX - 4)
        return 2;
    const long stride = atol(argv[4]);
    shim = argv[1];
    client.port = atoi(argv[2]);
    image = file_read(argv[3], &image_size);
    json = file_as_json(image, image_size);
    form = malloc(image_size + 200);
    if (!form)
        return 1;
    form_size = (size_t)sprintf(form, "--x\r\nContent-Disposition: form-data; name=\"image\"; filename=\"a.jpg\"\r\n\r\n");
    memcpy(form + form_size, image, image_size);
    form_size += image_size;
    form_size += (size_t)sprintf(form + form_size, "\r\n--x--\r\n");
    snprintf(listen, sizeof listen, "127.0.0.1:%d", client.port);
    int count = 0;
    args[count++] = argv[5];
    args[count++] = "--listen";
    args[count++] = listen;
    args[count++] = "--model";
    for (int i = 6; i < argc; i++)
        args[count++] = argv[i];
    daemon_args = args;
    setvbuf(stdout, NULL, _IOLBF, 0);
    signal(SIGPIPE, SIG_IGN);

    const int fd = mkstemp(control_path), log = mkstemp(log_path);
    if (fd < 0 || log < 0 || ftruncate(fd, sizeof *control) < 0)
        return 1;
    control = mmap(NULL, sizeof *control, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (control == MAP_FAILED)
        return 1;
    int status;
    start();
    if (wait_ready(&status) != 1) {
        printf("the daemon does not start; see %s\n", log_path);
        return 1;
    }
    take_references();
    for (size_t i = 0; i < sizeof operations / sizeof *operations; i++)
        sweep(&operations[i]);
    stop("end", "without faults", 0);
    sweep_stop();
    sweep_start(stride);
    unlink(control_path);
    unlink(log_path);
    client_free(&client);
    return failures != 0;
}
