/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Counters.  A striped counter is added to by every allocate and release: each
 * thread has a stripe that it shares with few others.  A gauge goes up and
 * down at slow events and remembers its peak.  Both order nothing.
 *
 * Where even that is too slow, a thread has a slot of its own: COUNTER_SLOTS of
 * anything, of which the first COUNTER_OWNERS are written by one thread each,
 * without a locked operation; the others are shared by those who came when all
 * of the first were taken.  counter_slots() is how many are in use.  A hit of a
 * cache asks for its place instead: where its slot is, if that is its own.
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

/* The lowest bit of each place; what a slot takes where places are used. */
enum { COUNTER_PLACED = 1, COUNTER_PLACE_BYTES = 128 };

/* What hits ask of their thread, see rcu.h. */
struct counter_section {
	/* aligned: copied at once; 0: no own slot (yet), or not inside */
	_Alignas(uint64_t) uint32_t place;
	uint32_t depth;		/* of the application's read sections */
};

/* The thread's own, found by one address. */
struct counter_thread {
	uint32_t number;	/* slot + 1; 0: none yet */
	struct counter_section now;
	struct counter_section begun;	/* what the outermost makes of it */
	const void *reader;		/* rcu.h's */
};

extern _Thread_local struct counter_thread counter_thread;
unsigned counter_number_thread(void) __attribute__((cold));

static inline uint32_t counter_place_of(unsigned slot)
{
	return slot * COUNTER_PLACE_BYTES + COUNTER_PLACED;
}

/* What has that place in an array with an element for each slot. */
static inline void *counter_at(void *array, uint32_t place)
{
	return (char *)array + ((uintptr_t)place - COUNTER_PLACED);
}

#ifdef SEG_EXPLORE
#define counter_slot() explore_slot()
#define counter_place()                                                        \
	(explore_owns(explore_slot()) ? counter_place_of(explore_slot()) : 0)
#define counter_slots() explore_slots()
#define counter_owns(slot) explore_owns(slot)
#else
static inline unsigned counter_slot(void)
{
	unsigned number = counter_thread.number;

	return (__builtin_expect(number != 0, 1) ?
			number : counter_number_thread()) - 1;
}

/* Of the thread's own slot; 0: it has none (yet).  Without a call. */
#define counter_place() counter_thread.begun.place

/* Slots that may have been written; newer than the caller's last seq_cst
 * store. */
unsigned counter_slots(void);

#define counter_owns(slot) ((slot) < COUNTER_OWNERS)
#endif

/* Adds to a counter of the calling thread's own slot. */
static inline void counter_bump_own(struct atomic_u64 *c, uint64_t by)
{
	/* relaxed, both: no other thread writes it */
	u64_store_relaxed(c, u64_load_relaxed(c) + by);
}

/* The same, of its slot, own or not. */
static inline void counter_bump(struct atomic_u64 *c, size_t slot, uint64_t by)
{
	if (__builtin_expect(counter_owns(slot), 1))
		counter_bump_own(c, by);
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
