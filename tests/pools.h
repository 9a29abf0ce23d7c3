/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What the tests of the upper layers share: pools, figures, events, and
 * conditions that another thread is to bring about, the library's included.
 * Unlike cmocka's assertions, require() may be used by all threads.
 */
#ifndef SEG_TESTS_POOLS_H
#define SEG_TESTS_POOLS_H

#include "testing.h"

#define KIB ((uint64_t)1024)
#define MIB (1024 * KIB)

enum { PATIENCE_S = 60 };	/* after that, a test has failed */

#define require(expr)                                                          \
	do {                                                                   \
		if (!(expr)) {                                                 \
			fprintf(stderr, "%s:%d: not true: %s\n", __FILE__,     \
				__LINE__, #expr);                              \
			abort();                                               \
		}                                                              \
	} while (0)

#define wait_until(expr)                                                       \
	do {                                                                   \
		struct timespec end_ = monotonic_in(PATIENCE_S, 0);            \
		while (!(expr)) {                                              \
			require(!monotonic_is_past(&end_));                    \
			nanosleep(&(struct timespec){ .tv_nsec = 200000 },     \
				  NULL);                                       \
		}                                                              \
	} while (0)

static inline struct timespec monotonic_in(time_t seconds, long milliseconds)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	t.tv_nsec += milliseconds % 1000 * 1000000;
	t.tv_sec += seconds + milliseconds / 1000 + t.tv_nsec / 1000000000;
	t.tv_nsec %= 1000000000;
	return t;
}

static inline bool monotonic_is_past(const struct timespec *t)
{
	struct timespec now = monotonic_in(0, 0);

	return now.tv_sec > t->tv_sec ||
	       (now.tv_sec == t->tv_sec && now.tv_nsec >= t->tv_nsec);
}

static inline size_t slice_of(int class_index)
{
	return (size_t)SEG_MIN_BYTES << class_index;
}

/* Sets the size; the budget is in the options. */
static inline struct seg_pool *make_pool_with(struct seg_pool_options o)
{
	o.size = sizeof(o);
	return new_pool_with(&o);
}

/* Refuses at once, and leaves idle regions alone for ten minutes. */
static inline struct seg_pool *make_pool(struct seg_budget *budget)
{
	return make_pool_with((struct seg_pool_options){
		.budget = budget, .wait_ms = SEG_NO_WAIT, .decay_ms = 600000,
	});
}

static inline void end_both(struct seg_pool *pool, struct seg_budget *budget)
{
	end_pool(pool);
	assert_int_equal(budget_stats(budget).waiters, 0);
	end_budget(budget);
}

static inline struct seg_pool_stats figures(struct seg_pool *pool,
					    int class_index)
{
	struct seg_pool_stats s = { .size = sizeof(s) };

	require(seg_pool_stats(pool, SEG_ALL, class_index, &s) == 0);
	return s;
}

static inline uint64_t charged(struct seg_budget *budget)
{
	struct seg_budget_stats s = { .size = sizeof(s) };

	require(seg_budget_stats(budget, &s) == 0);
	return s.charged_bytes;
}

/* Waits at the limit as long as a test may take. */
static inline void *alloc_patiently(struct seg_pool *pool, size_t bytes)
{
	struct timespec until = monotonic_in(PATIENCE_S, 0);

	return seg_alloc_until(pool, bytes, &until);
}

static inline void *alloc_without_wait(struct seg_pool *pool, size_t bytes)
{
	return seg_alloc_until(pool, bytes, &(struct timespec){ 0 });
}

/* ------------------------------------------------------------------ events */

struct events {
	struct recorder lines;
	pthread_mutex_t lock;
	unsigned misuses;
	enum seg_misuse what;		/* of the last one */
	const void *address;
};

#define EVENTS_INIT                                                            \
	{ .lines = RECORDER_INIT, .lock = PTHREAD_MUTEX_INITIALIZER }

/* A seg_misuse_fn; ctx is events. */
static inline void events_misuse(void *ctx, enum seg_misuse what,
				 const void *address)
{
	struct events *e = ctx;

	pthread_mutex_lock(&e->lock);
	e->misuses++;
	e->what = what;
	e->address = address;
	pthread_mutex_unlock(&e->lock);
}

/* make_pool() with both callbacks. */
static inline struct seg_pool *make_pool_events(struct seg_budget *budget,
						struct events *e,
						enum seg_log_level level)
{
	return make_pool_with((struct seg_pool_options){
		.budget = budget, .wait_ms = SEG_NO_WAIT, .decay_ms = 600000,
		.log = recorder_log, .log_ctx = &e->lines, .log_level = level,
		.misuse = events_misuse, .misuse_ctx = e,
	});
}

/* The last line, which is forgotten; "" if there is none. */
static inline const char *events_pop(struct events *e)
{
	struct recorder *r = &e->lines;

	if (r->count == 0 || r->count > RECORDER_LINES)
		return "";
	return r->line[--r->count];
}

#endif
