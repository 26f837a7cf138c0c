// SPDX-License-Identifier: MIT
//
// test_queue.c - the bounded queue and the memory budget: limits exceeded by one, order, deadlines, wakes, many threads.

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/budget.h"
#include "daemon/queue.h"
#include "tests/scarce.h"

static int items[64];

static void order_and_limit(void **state)
{
    unsigned seen = 0;
    int closed;
    (void)state;
    struct queue *q = queue_new(3);
    assert_non_null(q);
    assert_int_equal(queue_capacity(q), 3);
    for (int i = 0; i < 3; i++)
        assert_int_equal(queue_push(q, &items[i], NULL, 100), 0);
    assert_int_equal(queue_push(q, &items[3], NULL, 100), -1);
    assert_int_equal(queue_depth(q), 3);
    assert_ptr_equal(queue_pop(q, &seen, &closed), &items[0]);
    assert_int_equal(queue_push(q, &items[3], NULL, 100), 0);
    for (int i = 1; i <= 3; i++)
        assert_ptr_equal(queue_pop(q, &seen, &closed), &items[i]);
    assert_false(closed);
    queue_free(q);
}

static void deadlines(void **state)
{
    unsigned seen = 0;
    int closed;
    (void)state;
    struct queue *q = queue_new(4);
    queue_push(q, &items[0], NULL, 30);
    queue_push(q, &items[1], NULL, 10);
    queue_push(q, &items[2], NULL, 20);
    assert_null(queue_pop_expired(q, 9));
    assert_ptr_equal(queue_pop_expired(q, 20), &items[1]);
    assert_ptr_equal(queue_pop_expired(q, 20), &items[2]);
    assert_null(queue_pop_expired(q, 20));
    assert_ptr_equal(queue_pop(q, &seen, &closed), &items[0]);
    for (int i = 3; i < 6; i++) /* all late: one at a time, the oldest first */
        queue_push(q, &items[i], NULL, 10);
    assert_ptr_equal(queue_pop_expired(q, 10), &items[3]);
    assert_int_equal(queue_depth(q), 2);
    queue_free(q);
}

static void no_memory(void **state)
{
    (void)state;
    scarce_left = 0;
    struct queue *q = queue_new(3);
    scarce_left = -1;
    assert_null(q);
    queue_free(q);
}

static void wake_and_close(void **state)
{
    unsigned seen = 0, other = 0;
    int closed;
    (void)state;
    struct queue *q = queue_new(2);
    queue_wake(q);
    assert_null(queue_pop(q, &seen, &closed)); /* each caller is woken once, whenever it comes */
    assert_false(closed);
    assert_null(queue_pop(q, &other, &closed));
    queue_push(q, &items[0], NULL, 1);
    queue_close(q);
    assert_int_equal(queue_push(q, &items[1], NULL, 1), -1);
    assert_ptr_equal(queue_pop(q, &seen, &closed), &items[0]); /* what was accepted is still handed out */
    assert_false(closed);
    assert_null(queue_pop(q, &seen, &closed));
    assert_true(closed);
    queue_free(q);
}

enum { THREADS = 4, EACH = 2000 };

struct crowd {
    struct queue *q;
    struct budget *b;
    _Atomic long taken, sum;
};

static void *taker(void *user)
{
    struct crowd *c = user;
    unsigned seen = 0;
    int closed = 0;
    while (!closed) {
        int *item = queue_pop(c->q, &seen, &closed);
        if (item) {
            c->taken++;
            c->sum += item - items;
            budget_release(c->b, 10);
        }
    }
    return NULL;
}

static void *giver(void *user)
{
    struct crowd *c = user;
    for (int i = 0; i < EACH;) {
        if (budget_reserve(c->b, 10, "a test", NULL) == 0) {
            if (queue_push(c->q, &items[i % 64], NULL, 0) == 0) {
                i++;
                continue;
            }
            budget_release(c->b, 10);
        }
        sched_yield(); /* where one thread runs at a time, as under valgrind, the takers would hardly get their turn */
    }
    return NULL;
}

static void many_threads(void **state)
{
    struct budget b = {0};
    struct crowd c = {.q = queue_new(5), .b = &b};
    pthread_t give[THREADS], take[THREADS];
    long expect = 0;
    (void)state;
    atomic_store(&b.limit, 35); /* three at a time */
    for (int i = 0; i < THREADS; i++) {
        pthread_create(&take[i], NULL, taker, &c);
        pthread_create(&give[i], NULL, giver, &c);
    }
    for (int i = 0; i < THREADS; i++)
        pthread_join(give[i], NULL);
    queue_close(c.q);
    for (int i = 0; i < THREADS; i++)
        pthread_join(take[i], NULL);
    for (int i = 0; i < EACH; i++)
        expect += i % 64;
    assert_int_equal(c.taken, THREADS * EACH);
    assert_int_equal(c.sum, THREADS * expect);
    assert_int_equal(b.used, 0);
    queue_free(c.q);
}

enum { RESERVES = 300000 };

static void *reserver(void *b)
{
    for (int i = 0; i < RESERVES; i++)
        if (budget_reserve(b, 3, "a test", NULL) < 0)
            return NULL;
    return b;
}

/* Threads that come between another's look and its taking: nothing is counted twice or lost. */
static void contended_budget(void **state)
{
    struct budget b = {0};
    pthread_t threads[THREADS];
    void *all;
    (void)state;
    atomic_store(&b.limit, (size_t)THREADS * RESERVES * 3);
    for (int i = 0; i < THREADS; i++)
        pthread_create(&threads[i], NULL, reserver, &b);
    for (int i = 0; i < THREADS; i++) {
        pthread_join(threads[i], &all);
        assert_ptr_equal(all, &b);
    }
    assert_int_equal(b.used, (size_t)THREADS * RESERVES * 3);
    assert_int_equal(budget_reserve(&b, 1, "a test", NULL), -1);
}

static void budget(void **state)
{
    struct budget b = {0};
    struct err e;
    (void)state;
    atomic_store(&b.limit, 1000);
    assert_int_equal(budget_reserve(&b, 1001, "x", &e), -1);
    assert_int_equal(e.code, ERR_BUSY);
    assert_int_equal(budget_reserve(&b, 1000, "x", &e), 0);
    assert_int_equal(budget_reserve(&b, 0, "x", &e), 0);
    assert_int_equal(budget_reserve(&b, 1, "x", &e), -1);
    assert_int_equal(budget_reserve(&b, (size_t)-1, "x", &e), -1);
    budget_release(&b, 1);
    assert_int_equal(budget_reserve(&b, 1, "x", &e), 0);
    atomic_store(&b.limit, 500); /* lowered by a reload below what is taken */
    assert_int_equal(budget_reserve(&b, 1, "x", &e), -1);
    budget_release(&b, 1000);
    assert_int_equal(b.used, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(order_and_limit), cmocka_unit_test(deadlines),
                                       cmocka_unit_test(wake_and_close),  cmocka_unit_test(many_threads),
                                       cmocka_unit_test(budget),          cmocka_unit_test(contended_budget),
                                       cmocka_unit_test(no_memory)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
