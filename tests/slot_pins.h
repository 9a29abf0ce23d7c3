/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the tests of pins in slots share: entries that are open. */
#ifndef SEG_TESTS_SLOT_PINS_H
#define SEG_TESTS_SLOT_PINS_H

#include "actors.h"
#include "caches.h"

#include "cache.h"
#include "cache_close.h"
#include "pin_slots.h"
#include "section.h"

enum { HITS_MOST = 4200 };	/* that an entry needs to open */

/* Nobody changes the cache. */
static inline struct cache_entry *entry_of(struct seg_cache *c, uint64_t key)
{
	struct cache_entry *e = cache_index_get(&c->index, key);

	require(e);
	return e;
}

static inline bool is_open(const struct cache_entry *e)
{
	return (entry_look(e) & ENTRY_OPEN) != 0;
}

static inline uint64_t word_pins(const struct cache_entry *e)
{
	return entry_pins(entry_look(e));
}

/* Hits it until it is open: three times, and more if the thread is new, or an
 * exchange fails for no reason. */
static inline struct cache_entry *make_open(struct seg_cache *c, uint64_t key)
{
	struct cache_entry *e = entry_of(c, key);

	for (int hits = 0; !is_open(e); hits++)
		require(hits < HITS_MOST && has(c, key));
	return e;
}

static inline struct cache_entry *put_open(struct seg_cache *c, uint64_t key,
					   uint64_t weight)
{
	put(c, key, number(key), weight);
	return make_open(c, key);
}

/* Of an entry that is there. */
static inline struct seg_pin get_in_slot(struct seg_cache *c, uint64_t key)
{
	struct seg_pin pin;

	(void)counter_slot();	/* maybe the thread has no number yet */
	make_open(c, key);
	pin = get(c, key);
	require(cache_pin_slot(&pin));
	return pin;
}

/* By all threads. */
static inline void count_slot(void *ctx, const struct slot_pin *pin)
{
	unsigned *slots = ctx;

	(void)pin;
	++*slots;
}

static inline unsigned slots_in_use(void)
{
	unsigned slots = 0;

	pin_slots_each(count_slot, &slots);
	return slots;
}

#endif
