// SPDX-License-Identifier: MIT
//
// api_routes.h - the functions behind the table of api.c, by the file they are in.

#ifndef DAEMON_API_ROUTES_H
#define DAEMON_API_ROUTES_H

#include "daemon/api.h"

api_fn api_predict; /* api_predict.c */

api_fn api_precision, api_precision_put; /* api_precision.c */

api_fn api_livez, api_readyz, api_index, api_arrived; /* api_health.c */

api_fn api_metrics; /* api_metrics.c */

api_fn api_models, api_status; /* api_status.c */

api_fn api_reload, api_drain; /* api_admin.c */

api_fn api_v2_server, api_v2_live, api_v2_ready, api_v2_model, api_v2_model_ready; /* api_v2.c */

api_fn api_v2_infer; /* api_v2_infer.c */

api_fn api_openapi; /* api_openapi.c */

#endif
