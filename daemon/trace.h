// SPDX-License-Identifier: MIT
//
// trace.h - where a request comes from, as other programs name it: traceparent of W3C Trace Context and X-Request-Id. They go
// into the log and, as exemplars, into the metrics, so that a slow bucket leads to a request and to its trace.

#ifndef DAEMON_TRACE_H
#define DAEMON_TRACE_H

#define TRACE_ID_BYTES   32 /* hexadecimal digits */
#define TRACE_SPAN_BYTES 16

struct trace {
    char id[TRACE_ID_BYTES + 1];       /* "": none */
    char parent[TRACE_SPAN_BYTES + 1]; /* the caller's span */
    int sampled;                       /* the caller records this trace */
};

/* Reads a traceparent header; NULL is fine. Strictly: what is not exactly right is no trace at all, as the specification wants,
   and never a reason to refuse the request. -1: *out is empty. */
int trace_parse(const char *traceparent, struct trace *out);

#endif
