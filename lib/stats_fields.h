/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The members of the public statistics by name, without their size. */
#ifndef SEG_STATS_FIELDS_H
#define SEG_STATS_FIELDS_H

#include "json.h"

extern const struct json_field budget_stats_fields[];
extern const struct json_field pool_stats_fields[];
extern const struct json_field cache_stats_fields[];

#endif
