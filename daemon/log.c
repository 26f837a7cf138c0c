// SPDX-License-Identifier: MIT
#include "daemon/log.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "daemon/clock.h"

#define LINE_MAX_BYTES 2048

static struct { /* atomic: a reload changes them while others log */
    atomic_int level, format, prefix;
} settings = {LOG_LEVEL_INFO, LOG_TEXT, 0};

/* JOURNAL_STREAM names the device and inode that systemd connected (systemd.exec(5)). */
static int stderr_is_journal(void)
{
    const char *stream = getenv("JOURNAL_STREAM");
    unsigned long long device, inode;
    struct stat st;
    return stream && sscanf(stream, "%llu:%llu", &device, &inode) == 2 && fstat(STDERR_FILENO, &st) == 0 && st.st_dev == device &&
           st.st_ino == inode;
}

void log_setup(enum log_level level, enum log_format format, enum log_prefix prefix)
{
    settings.level = level;
    settings.format = format;
    settings.prefix = prefix == LOG_PREFIX_ON || (prefix == LOG_PREFIX_AUTO && stderr_is_journal());
}

static const char *level_name(enum log_level level)
{
    switch (level) {
    case LOG_LEVEL_ERROR:
        return "error";
    case LOG_LEVEL_WARNING:
        return "warning";
    case LOG_LEVEL_INFO:
        return "info";
    default:
        return "debug";
    }
}

/* Control characters and bytes beyond ASCII that may not be UTF-8 become \xNN (text) or \u00NN (JSON); a backslash is put before
   the characters of special, one of which is itself. */
static size_t escape(char *out, size_t size, const char *in, int json, const char *special)
{
    size_t n = 0;
    for (const unsigned char *p = (const unsigned char *)in; *p && n + 8 < size; p++) {
        if (strchr(special, *p))
            n += (size_t)snprintf(out + n, size - n, "\\%c", *p);
        else if (*p < 0x20 || *p >= 0x7f)
            n += (size_t)snprintf(out + n, size - n, json ? "\\u%04x" : "\\x%02x", *p);
        else
            out[n++] = (char)*p;
    }
    out[n] = '\0';
    return n;
}

/* The fields as they stand behind the message, or as members of the JSON object; cut short where there is no room for more. */
static void write_fields(char *out, size_t size, const struct log_field *fields, int count, int json)
{
    size_t n = 0;
    out[0] = '\0';
    for (int i = 0; i < count; i++) {
        const struct log_field *f = &fields[i];
        char value[LINE_MAX_BYTES];
        if (f->said && !json)
            continue;
        if (!f->text)
            snprintf(value, sizeof value, "%.10g", f->number);
        else
            escape(value, sizeof value, f->text, json, "\"\\");
        const char *quote = f->text && (json || strpbrk(value, " \"=\\") || !*value) ? "\"" : "";
        int more = snprintf(out + n, size - n, json ? ",\"%s\":%s%s%s" : " %s=%s%s%s", f->key, quote, value, quote);
        if (more < 0 || (size_t)more >= size - n) {
            out[n] = '\0';
            return;
        }
        n += (size_t)more;
    }
}

static void log_line(enum log_level level, const char *message, const struct log_field *fields, int count)
{
    char line[2 * LINE_MAX_BYTES + 160], text[LINE_MAX_BYTES], more[LINE_MAX_BYTES], stamp[40];
    struct timespec now;
    struct tm tm;
    escape(text, sizeof text, message, settings.format == LOG_JSON, settings.format == LOG_JSON ? "\"\\" : "\\");
    write_fields(more, sizeof more, fields, count, settings.format == LOG_JSON);
    clock_gettime(CLOCK_REALTIME, &now);
    gmtime_r(&now.tv_sec, &tm);
    strftime(stamp, sizeof stamp, "%Y-%m-%dT%H:%M:%S", &tm);
    char priority[8] = "";
    if (settings.prefix)
        snprintf(priority, sizeof priority, "<%d>", (int)level);
    int n;
    if (settings.format == LOG_JSON)
        n = snprintf(line, sizeof line, "%s{\"ts\":\"%s.%03ldZ\",\"level\":\"%s\",\"msg\":\"%s\"%s}\n", priority, stamp,
                     now.tv_nsec / 1000000, level_name(level), text, more);
    else if (settings.prefix) /* the journal has its own clock */
        n = snprintf(line, sizeof line, "%s%s%s\n", priority, text, more);
    else
        n = snprintf(line, sizeof line, "%s.%03ldZ %s: %s%s\n", stamp, now.tv_nsec / 1000000, level_name(level), text, more);
    if (n > 0 && write(STDERR_FILENO, line, (size_t)n) < 0)
        return; /* a full disk or a closed stderr must not stop the service */
}

static void log_v(enum log_level level, const struct log_field *fields, int count, const char *fmt, va_list ap)
{
    if ((int)level > settings.level)
        return;
    char message[LINE_MAX_BYTES];
    vsnprintf(message, sizeof message, fmt, ap);
    log_line(level, message, fields, count);
}

#define LOG_BODY(level)                                                                                                          \
    va_list ap;                                                                                                                  \
    va_start(ap, fmt);                                                                                                           \
    log_v(level, NULL, 0, fmt, ap);                                                                                              \
    va_end(ap)

void log_error(const char *fmt, ...)
{
    LOG_BODY(LOG_LEVEL_ERROR);
}

void log_warning(const char *fmt, ...)
{
    LOG_BODY(LOG_LEVEL_WARNING);
}

void log_info(const char *fmt, ...)
{
    LOG_BODY(LOG_LEVEL_INFO);
}

void log_fields(enum log_level level, const struct log_field *fields, int count, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    log_v(level, fields, count, fmt, ap);
    va_end(ap);
}

void log_limited_v(struct log_limit *limit, enum log_level level, const char *fmt, va_list ap)
{
    static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    if ((int)level > settings.level)
        return;
    long long now = clock_ms();
    pthread_mutex_lock(&lock);
    int quiet = limit->last_ms && now - limit->last_ms < 1000;
    unsigned long swallowed = limit->swallowed;
    if (quiet) {
        limit->swallowed++;
    } else {
        limit->last_ms = now;
        limit->swallowed = 0;
    }
    pthread_mutex_unlock(&lock);
    if (quiet)
        return;
    char message[LINE_MAX_BYTES];
    int n = vsnprintf(message, sizeof message, fmt, ap);
    while (n > 0 && n < (int)sizeof message && message[n - 1] == '\n')
        message[--n] = '\0';
    if (swallowed && n >= 0 && n < (int)sizeof message)
        snprintf(message + n, sizeof message - (size_t)n, " (and %lu like it)", swallowed);
    log_line(level, message, NULL, 0);
}

void log_limited(struct log_limit *limit, enum log_level level, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    log_limited_v(limit, level, fmt, ap);
    va_end(ap);
}
