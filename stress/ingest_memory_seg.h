/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the two files of the variant "libseg" share. */
#ifndef INGEST_MEMORY_SEG_H
#define INGEST_MEMORY_SEG_H

#include <seg.h>

struct seg_state {
	struct seg_budget *budget;
	struct seg_pool *pool;
};

/* A seg_log_fn; ctx is the FILE. */
void write_event(void *ctx, enum seg_log_level level, const char *line);

void print_pin(const char *what, const struct seg_pin_info *pin);

#endif
