// SPDX-License-Identifier: MIT
//
// openapi.h - docs/openapi.json as a string; its source is written by make.

#ifndef DAEMON_OPENAPI_H
#define DAEMON_OPENAPI_H

extern const char openapi_json[];

#endif
