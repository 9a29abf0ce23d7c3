/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Counters.  A striped counter is added to by every allocate and release: each
 * thread has a stripe that it shares with few others.  A gauge goes up and
 * down at slow events and remembers its peak.  Both order nothing.
 */
#ifndef SEG_COUNTER_H
#define SEG_COUNTER_H

#include <pthread.h>

#include "atomic.h"

enum { COUNTER_STRIPES = 8, CACHE_LINE = 64 };

struct counter {
	struct {
		_Alignas(CACHE_LINE) struct atomic_u64 value;
	} stripe[COUNTER_STRIPES];
};

static inline unsigned counter_stripe(void)
{
	uint64_t self = (uint64_t)(uintptr_t)pthread_self();

	return (unsigned)((self * 0x9e3779b97f4a7c15u) >> 61);
}

static inline void counter_add(struct counter *c)
{
	/* relaxed: counter */
	u64_add_relaxed(&c->stripe[counter_stripe()].value, 1);
}

static inline uint64_t counter_sum(const struct counter *c)
{
	uint64_t sum = 0;

	for (unsigned i = 0; i < COUNTER_STRIPES; i++)
		/* relaxed: counter */
		sum += u64_load_relaxed(&c->stripe[i].value);
	return sum;
}

struct gauge {
	struct atomic_u64 value;
	struct atomic_u64 peak;
};

static inline void gauge_raise_peak(struct atomic_u64 *peak, uint64_t value)
{
	uint64_t old = u64_load_relaxed(peak); /* relaxed: counter */

	/* relaxed: counter; retries only when another raised it meanwhile */
	while (old < value && !u64_cas_weak_relaxed(peak, &old, value))
		;
}

static inline void gauge_add(struct gauge *g, uint64_t by)
{
	/* relaxed: counter */
	gauge_raise_peak(&g->peak, u64_add_relaxed(&g->value, by) + by);
}

static inline void gauge_sub(struct gauge *g, uint64_t by)
{
	u64_sub_relaxed(&g->value, by); /* relaxed: counter */
}

static inline uint64_t gauge_value(const struct gauge *g)
{
	return u64_load_relaxed(&g->value); /* relaxed: counter */
}

static inline uint64_t gauge_peak(const struct gauge *g)
{
	return u64_load_relaxed(&g->peak); /* relaxed: counter */
}

#endif
