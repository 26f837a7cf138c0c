// SPDX-License-Identifier: MIT
//
// constant_time.c - does the time that the comparison of tokens takes tell where a wrong one differs, or how long the right one
// is?
//
// In the manner of dudect (Reparaz, Balasch, Verbauwhede, "Dude, is my code constant time?", 2017): two classes of input in
// random order, the cycles of each call, Welch's t-test. |t| below 4.5 after a million calls is no leak that this machine shows.
// Times above a quantile are left out, for they are interrupts; several quantiles are tried and the largest |t| counts. The same
// is done with memcmp and strcmp, which must be found out: else the measurement shows nothing.

#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "daemon/access.h"

#define LIMIT  4.5
#define ROUND  10000
#define CROPS  5
#define LENGTH 200 /* of the token that is looked for */

static uint64_t cycles(void)
{
#if defined __x86_64__
    __builtin_ia32_lfence();
    uint64_t now = __builtin_ia32_rdtsc();
    __builtin_ia32_lfence();
    return now;
#else
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC_RAW, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
#endif
}

static uint64_t random_state = 88172645463325252u;
static uint64_t random_next(void) /* xorshift64 */
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    return random_state ^= random_state << 17;
}

/* What is sent, and what it is compared with. */
struct pair {
    size_t given_len;
    char given[ACCESS_TOKEN_SIZE], token[ACCESS_TOKEN_SIZE];
};

typedef int compare_fn(const struct pair *p);

static int by_access(const struct pair *p)
{
    return access_equal(p->given, p->given_len, p->token);
}

static int by_memcmp(const struct pair *p)
{
    return p->token[p->given_len] == '\0' && memcmp(p->given, p->token, p->given_len) == 0;
}

static int by_strcmp(const struct pair *p)
{
    return strcmp(p->given, p->token) == 0;
}

struct moments {
    double n, mean, m2;
};

static void add(struct moments *m, double x)
{
    double d = x - m->mean;
    m->n++;
    m->mean += d / m->n;
    m->m2 += d * (x - m->mean);
}

static double welch(const struct moments *a, const struct moments *b)
{
    double va = a->m2 / (a->n - 1) / a->n, vb = b->m2 / (b->n - 1) / b->n;
    return a->n < 1000 || b->n < 1000 || va + vb <= 0 ? 0 : (a->mean - b->mean) / sqrt(va + vb);
}

static int ascending(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

/* The largest |t| over the quantiles. */
static double measure(compare_fn *fn, const struct pair pairs[2], long calls)
{
    static uint64_t took[ROUND], sorted[ROUND];
    static unsigned char class[ROUND];
    static const double keep[CROPS] = {0.5, 0.75, 0.9, 0.97, 0.999};
    struct moments m[CROPS][2] = {0};
    uint64_t most[CROPS] = {0};
    struct pair p;
    volatile int sink = 0;
    for (long done = -ROUND; done < calls; done += ROUND) { /* the first round warms up and tells the quantiles */
        for (int i = 0; i < ROUND; i++) {
            class[i] = random_next() >> 40 & 1;
            memcpy(&p, &pairs[class[i]], sizeof p); /* both classes from the same place */
            uint64_t begin = cycles();
            sink += fn(&p);
            took[i] = cycles() - begin;
        }
        if (done < 0) {
            memcpy(sorted, took, sizeof sorted);
            qsort(sorted, ROUND, sizeof sorted[0], ascending);
            for (int c = 0; c < CROPS; c++)
                most[c] = sorted[(size_t)(keep[c] * (ROUND - 1))];
            continue;
        }
        for (int i = 0; i < ROUND; i++)
            for (int c = 0; c < CROPS; c++)
                if (took[i] <= most[c])
                    add(&m[c][class[i]], (double)took[i]);
    }
    double t = 0;
    for (int c = 0; c < CROPS; c++)
        t = fmax(t, fabs(welch(&m[c][0], &m[c][1])));
    return t;
}

static void fill(char *s, int length, int wrong_at)
{
    memset(s, 0, ACCESS_TOKEN_SIZE);
    for (int i = 0; i < length; i++)
        s[i] = (char)('a' + i * 7 % 26);
    if (wrong_at >= 0)
        s[wrong_at] = '#';
}

int main(int argc, char **argv)
{
    enum { CASES = 4 };
    static const char *const names[CASES] = {"first byte wrong or the last", "first byte wrong or none", "whole or half",
                                             "secret short or long"};
    static const struct class
    {
        int given, wrong_at, token;
    } cases[CASES][2] = {{{LENGTH, 0, LENGTH}, {LENGTH, LENGTH - 1, LENGTH}},
                         {{LENGTH, 0, LENGTH}, {LENGTH, -1, LENGTH}},
                         {{LENGTH, LENGTH - 1, LENGTH}, {LENGTH / 2, -1, LENGTH}},
                         {{LENGTH, 0, 16}, {LENGTH, 0, ACCESS_TOKEN_SIZE - 1}}};
    static const struct {
        const char *name;
        compare_fn *fn;
        int leaks;
    } functions[] = {{"access_equal", by_access, 0}, {"memcmp", by_memcmp, 1}, {"strcmp", by_strcmp, 1}};
    const long calls = argc > 1 ? strtol(argv[1], NULL, 10) : 1000000;
    int status = 0;
    if (calls < ROUND) {
        fprintf(stderr, "usage: constant_time [CALLS, at least %d]\n", ROUND);
        return 2;
    }
    for (size_t f = 0; f < sizeof functions / sizeof functions[0]; f++) {
        double most = 0;
        char all[300] = "";
        for (int i = 0; i < CASES; i++) {
            struct pair pairs[2];
            for (int k = 0; k < 2; k++) {
                const struct class *c = &cases[i][k];
                pairs[k].given_len = (size_t)c->given;
                fill(pairs[k].given, c->given, c->wrong_at);
                fill(pairs[k].token, c->token, -1);
            }
            double t = measure(functions[f].fn, pairs, calls);
            for (int again = 0; again < 2 && t > LIMIT; again++) /* a leak is there each time, other work of the machine is not */
                t = fmin(t, measure(functions[f].fn, pairs, calls));
            most = fmax(most, t);
            snprintf(all + strlen(all), sizeof all - strlen(all), "%s%.1f (%s)", i ? ", " : "", t, names[i]);
        }
        int good = functions[f].leaks ? most > LIMIT : most < LIMIT;
        printf("comparison of tokens by %s, %ld calls: |t| %s %.1f asked, %s reached, %s\n", functions[f].name, calls,
               functions[f].leaks ? "beyond" : "below", LIMIT, all, good ? "pass" : "fail");
        status |= !good;
    }
    return status;
}
