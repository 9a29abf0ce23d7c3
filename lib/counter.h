/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Counters.  A striped counter is added to by every allocate and release: each
 * thread has a stripe that it shares with few others.  A gauge goes up and
 * down at slow events and remembers its peak.  Both order nothing.
 *
 * Where even that is too slow, a thread has a slot of its own: COUNTER_SLOTS of
 * anything, of which the first COUNTER_OWNERS are written by one thread each,
 * without a locked operation; the others are shared by those who came when all
 * of the first were taken.  counter_slots() is how many are in use.
 */
#ifndef SEG_COUNTER_H
#define SEG_COUNTER_H

#include <stddef.h>

#include "atomic.h"

enum { COUNTER_STRIPES = 8, CACHE_LINE = 64 };

struct counter {
	struct {
		_Alignas(CACHE_LINE) struct atomic_u64 value;
	} stripe[COUNTER_STRIPES];
};

enum {
	COUNTER_OWNERS = 56,
	COUNTER_SHARED = 8,
	COUNTER_SLOTS = COUNTER_OWNERS + COUNTER_SHARED
};

extern _Thread_local size_t counter_thread;	/* slot + 1; 0: none yet */
unsigned counter_number_thread(void) __attribute__((cold));

#ifdef SEG_EXPLORE
#define counter_slot() explore_slot()
#define counter_number() (explore_slot() + (size_t)1)
#define counter_slots() explore_slots()
#define counter_owns(slot) explore_owns(slot)
#else
static inline unsigned counter_slot(void)
{
	size_t number = counter_thread;

	return (unsigned)(__builtin_expect(number != 0, 1) ?
				  number : counter_number_thread()) - 1;
}

/* The thread's slot + 1; 0: it has none yet.  Without a call. */
#define counter_number() counter_thread

/* Slots that may have been written; newer than the caller's last seq_cst
 * store. */
unsigned counter_slots(void);

#define counter_owns(slot) ((slot) < COUNTER_OWNERS)
#endif

/* Adds to a counter of that slot, the calling thread's. */
static inline void counter_bump(struct atomic_u64 *c, size_t slot, uint64_t by)
{
	if (__builtin_expect(counter_owns(slot), 1))
		/* relaxed, both: no other thread writes it */
		u64_store_relaxed(c, u64_load_relaxed(c) + by);
	else
		u64_add_relaxed(c, by); /* relaxed: counter */
}

static inline unsigned counter_stripe(unsigned stripes)
{
	return counter_slot() % stripes;
}

static inline void counter_add_many(struct counter *c, uint64_t by)
{
	/* relaxed: counter */
	u64_add_relaxed(&c->stripe[counter_stripe(COUNTER_STRIPES)].value, by);
}

static inline void counter_add(struct counter *c)
{
	counter_add_many(c, 1);
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
