/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What the cases of bench/limit share: a trial is a pool under a budget of its
 * own, all segments that are out, and what was seen at its refusals.  It is one
 * thread's; a trial with threads and a cache stands by itself.  All of it runs
 * as a test, too (tests/utilisation.c), which looks at the counts only.
 */
#ifndef BENCH_LIMIT_H
#define BENCH_LIMIT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

#include "seg.h"

#define LIMIT_WAIT_MS 20	/* of the second refusal of each fill */

/* What a trial writes into each segment, as an owner would. */
enum touch {
	TOUCH_FIRST,		/* a byte in its first 4 KiB */
	TOUCH_ALL,		/* a byte in each 4 KiB */
};

/* How long allocations took; as many as one likes. */
struct times {
	uint32_t *ns;		/* 4 s at the most */
	size_t count;
	size_t room;
};

void times_add(struct times *times, uint64_t ns);
/* Adds all of the other ones. */
void times_merge(struct times *times, const struct times *others);
/* Orders them; from then on ns[0] is the least. */
void times_sort(struct times *times);
/* Of ordered ones: the one that so many of 10,000 are not above. */
double times_at(const struct times *times, unsigned share);
void times_free(struct times *times);

/* Where the bytes of the limit were when an allocation was refused. */
struct refused {
	uint64_t count;		/* refusals; what follows is the worst one */
	uint64_t slice;		/* bytes that were refused */
	uint64_t active;	/* in the callers' hands */
	uint64_t unused;	/* charged, in regions */
	uint64_t deferred;	/* charged, waiting for a grace period */
	uint64_t room;		/* not charged at all */
	uint64_t decommitted;	/* address space that is not charged */
	uint64_t metadata;	/* the library's own, never charged */
	uint64_t unnamed;	/* the most that these sums are off the limit,
				   at any refusal */
	uint64_t needless;	/* refusals of what would have fitted */
};

struct trial {
	struct seg_budget *budget;
	struct seg_pool *pool;
	uint64_t limit;
	uint64_t random;
	enum touch touch;
	unsigned wait_ms;	/* LIMIT_WAIT_MS; may be changed */
	bool timed;		/* from the second fill on */
	struct held *held;
	size_t count;
	size_t room;
	struct times times;	/* of those that were served */
	struct times refusals;	/* of those refused without a wait */
	struct refused at_once;	/* without a wait */
	struct refused waited;	/* after that wait */
	uint64_t samples;	/* of what is charged */
	uint64_t most_charged;	/* in any of them, or as the library says */
};

/* What is not to be had ends the process with a message. */
void trial_open(struct trial *trial, uint64_t limit, uint64_t seed,
		enum touch touch);

/* Releases all; false: the library says that something is wrong. */
bool trial_close(struct trial *trial);

/*
 * Allocates segments of these classes in turn until one is refused without a
 * wait, then until one is refused after a wait.
 */
void trial_fill(struct trial *trial, const int *classes, size_t count);

/* Releases about so many of 100 segments, drawn by chance. */
void trial_release(struct trial *trial, unsigned percent);

/* Releases all but one segment in each region. */
void trial_keep_one_per_region(struct trial *trial);

struct limit_case {
	const char *name;
	void (*run)(struct trial *trial);
};

extern const struct limit_case limit_cases[];
extern const size_t limit_case_count;

/* ------------------------------------------------------------- helpers */

_Noreturn void bench_die(const char *what);

uint64_t bench_ns(clockid_t clock);
extern clockid_t bench_clock;	/* of the times: CLOCK_MONOTONIC */

/* splitmix64 */
uint64_t bench_random(uint64_t *state);

struct seg_budget *bench_budget(uint64_t limit);
/* Nothing is unmapped unless it is needed; wait_ms as in the options. */
struct seg_pool *bench_pool(struct seg_budget *budget, int wait_ms);

/* Of a pool whose segments are back; false: the library says it is wrong. */
bool bench_end(struct seg_pool *pool, struct seg_budget *budget);

struct seg_pool_stats bench_pool_stats(struct seg_pool *pool);
struct seg_budget_stats bench_budget_stats(struct seg_budget *budget);

/* The worst refusal is the one with the least in the callers' hands. */
void refused_note(struct refused *refused, struct seg_pool *pool,
		  struct seg_budget *budget, size_t slice);

/* --------------------------------------------- threads and a cache above */

struct cache_trial {
	uint64_t keys;		/* pages of them all: 1.5 times the budget */
	uint64_t hits;
	uint64_t loads;
	uint64_t reclaimed;	/* pages that the limit took from the cache */
	uint64_t wrong;		/* pages with the contents of another */
	uint64_t refusals;	/* of a page */
	uint64_t waits;
	struct times times;	/* of the pages that were made */
	uint64_t samples;
	uint64_t most_charged;
	double mean_active;	/* of the limit, once it was met */
	struct refused at_once;	/* one thread then fills it; the cache gives */
};

void cache_trial_run(struct cache_trial *ret, uint64_t limit, int wait_ms,
		     uint64_t seed);

#endif
