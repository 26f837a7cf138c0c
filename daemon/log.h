// SPDX-License-Identifier: MIT
//
// log.h - lines on stderr: plain text or JSON, with journald's priority prefix where the journal reads them.
//
// Whatever comes from outside is escaped: one event is one line. A message class that repeats (log_limited) writes at most one
// line a second and says how many it swallowed, so that a flood of clients cannot become a flood of log.

#ifndef DAEMON_LOG_H
#define DAEMON_LOG_H

#include <stdarg.h>

enum log_level { LOG_LEVEL_ERROR = 3, LOG_LEVEL_WARNING = 4, LOG_LEVEL_INFO = 6, LOG_LEVEL_DEBUG = 7 }; /* syslog's numbers */
enum log_format { LOG_TEXT, LOG_JSON };
enum log_prefix { LOG_PREFIX_AUTO, LOG_PREFIX_ON, LOG_PREFIX_OFF };

/* May be called again: a reload changes it. */
void log_setup(enum log_level level, enum log_format format, enum log_prefix prefix);

void log_error(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void log_warning(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void log_info(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* A line with named values behind its message: `message key=value` as text, members of the object as JSON. Values may come from
   outside. The keys that lines carry are listed in resnetd(8). */
struct log_field {
    const char *key;
    const char *text; /* NULL: number counts */
    double number;
    int said; /* the message says it already: JSON only */
};
void log_fields(enum log_level level, const struct log_field *fields, int count, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));

/* What repeats: one static struct per message class. */
struct log_limit {
    long long last_ms;
    unsigned long swallowed;
};
void log_limited(struct log_limit *limit, enum log_level level, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
void log_limited_v(struct log_limit *limit, enum log_level level, const char *fmt, va_list ap);

#endif
