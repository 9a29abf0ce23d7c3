/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the parts of bench/scale share: see scale.c, and README.md. */
#ifndef SCALE_H
#define SCALE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "seg.h"

enum {
	COLUMNS_MOST = 5,
	ROUNDS = 7,		/* of which the fastest is shown */
	COUNTED = 16,		/* operations */
};
#define FLAT_MOST 1.5		/* times the first column */

_Noreturn void die(const char *what);

/* ---- scale.c ---- */

/* CPU time of the calling thread, of the process. */
uint64_t thread_ns(void);
uint64_t process_ns(void);

/* What the process has resident. */
uint64_t resident_bytes(void);

struct seg_pool_stats stats_of(struct seg_pool *pool);
struct seg_budget *new_budget(uint64_t bytes);
/* Nothing goes by itself while the bench looks. */
struct seg_pool *new_pool(struct seg_budget *budget, uint64_t region_bytes);
void end_pool(struct seg_pool *pool, struct seg_budget *budget);

/* An operation, done n times. */
typedef void run_fn(void *ctx, unsigned n);

/* The least time of one, of some runs. */
double least_ns(double before, run_fn *run, void *ctx, unsigned n);

/* A table whose rows have a figure for each column. */
void table_begin(const char *head, const char *const *columns, unsigned count,
		 unsigned first);
/* Whether no figure is far above that of column `first`, if it is to be
 * judged. */
void table_row(const char *name, const char *unit, const double *figures,
	       bool judged);
/* Whether it is at most that. */
const char *verdict(double figure, double most);

/* Both rows of an operation: interleaved rounds, then counted.  Of memory that
 * is spread over more than the processor's caches have room for, the time is
 * not judged. */
void measure(const char *name, run_fn *run, void *const *ctx, unsigned n,
	     bool spread);

/* ---- scale_steps.c ---- */

/* Goes on as a child whose instructions can be counted, where that works; the
 * parent ends with its exit status. */
void steps_begin(void);
/* Instructions of one, or a negative number. */
double steps_of(run_fn *run, void *ctx, unsigned n);

/* ---- scale_regions.c and so on ---- */

void scale_regions(void);
void scale_threads(void);
void scale_nodes(void);
void scale_metadata(void);

#endif
