// SPDX-License-Identifier: MIT
//
// notify.h - tells systemd how we are (sd_notify(3)); without libsystemd, or when not started by systemd, nothing happens.

#ifndef DAEMON_NOTIFY_H
#define DAEMON_NOTIFY_H

#include <stdint.h>

void notify_ready(void);
void notify_reloading(void);
void notify_stopping(void);
void notify_status(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* Milliseconds between two signs of life that the watchdog wants, 0: no watchdog. */
int64_t notify_watchdog_ms(void);
void notify_alive(void);

#endif
