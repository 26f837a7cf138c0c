// SPDX-License-Identifier: MIT
//
// server_parts.c - the order in which the parts of a server begin and end.

#include "daemon/change.h"
#include "daemon/http.h"
#include "daemon/server.h"
#include "daemon/worker.h"

int server_load(struct server *s, struct err *e)
{
    s->metrics = metrics_new();
    s->registry = registry_new(&s->budget, s->kernels, (int)s->conf->threads);
    s->queue = queue_new((int)s->conf->queue);
    if (!s->metrics || !s->registry || !s->queue)
        return err_set(e, ERR_MEMORY, "no memory to start");
    return registry_apply(s->registry, s->conf, e);
}

int server_start(struct server *s, struct err *e)
{
    if (server_load(s, e) < 0 || workers_start(s, &s->workers, e) < 0 || change_start(s, &s->change, e) < 0)
        return -1;
    return http_start(s, &s->http, e); /* last: who waits at a passed socket is answered at once */
}

/* HTTP ends when nothing is suspended any more, and until then clients that linger may ask about workers and changes. */
void server_stop(struct server *s)
{
    if (s->queue)
        queue_close(s->queue);
    workers_stop(s->workers);
    change_stop(s->change);
    http_stop(s->http);
    change_free(s->change);
    workers_free(s->workers);
    registry_free(s->registry);
    queue_free(s->queue);
    metrics_free(s->metrics);
    conf_free(s->conf);
}
