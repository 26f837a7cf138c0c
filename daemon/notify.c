// SPDX-License-Identifier: MIT
#include "config.h"

#include "daemon/notify.h"

#include <stdarg.h>
#include <stdio.h>

#include "daemon/clock.h"

#ifdef HAVE_SYSTEMD
#include <systemd/sd-daemon.h>

static void say(const char *state)
{
    sd_notify(0, state);
}

int64_t notify_watchdog_ms(void)
{
    uint64_t us;
    return sd_watchdog_enabled(0, &us) > 0 ? (int64_t)(us / 1000) : 0;
}
#else
static void say(const char *state)
{
    (void)state;
}

int64_t notify_watchdog_ms(void)
{
    return 0;
}
#endif

void notify_ready(void)
{
    say("READY=1");
}

void notify_reloading(void)
{
    char text[64]; /* Type=notify-reload wants the time; older systemd ignores it */
    snprintf(text, sizeof text, "RELOADING=1\nMONOTONIC_USEC=%lld", (long long)clock_us());
    say(text);
}

void notify_stopping(void)
{
    say("STOPPING=1");
}

void notify_status(const char *fmt, ...)
{
    char text[256] = "STATUS=";
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text + 7, sizeof text - 7, fmt, ap);
    va_end(ap);
    say(text);
}

void notify_alive(void)
{
    say("WATCHDOG=1");
}
