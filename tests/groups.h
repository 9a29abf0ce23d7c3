/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Entries and their records without a cache: the n-th of so many groups, as
 * cache_slots.c makes them, all zero.
 */
#ifndef SEG_TESTS_GROUPS_H
#define SEG_TESTS_GROUPS_H

#include "testing.h"

#include "cache_entry.h"
#include "os.h"

enum { GROUPS = 2 };

static struct cache_group *groups[GROUPS];

static inline void groups_unmap(void)
{
	for (uint32_t i = 0; i < GROUPS; i++) {
		if (groups[i])
			assert_int_equal(os_unmap(groups[i], CACHE_GROUP_BYTES),
					 0);
		groups[i] = NULL;
	}
}

static inline void groups_map(void)
{
	groups_unmap();
	for (uint32_t i = 0; i < GROUPS; i++) {
		groups[i] = os_map(CACHE_GROUP_BYTES, CACHE_GROUP_BYTES);
		assert_non_null(groups[i]);
		groups[i]->first = i << CACHE_GROUP_BITS;
	}
}

/* Number 0 is nobody's. */
static inline struct cache_entry *nth_entry(uint64_t n)
{
	uint64_t at = n + 1;

	return &groups[at / CACHE_GROUP_ENTRIES]
			->entry[at % CACHE_GROUP_ENTRIES];
}

static inline uint64_t entry_nth(const struct cache_entry *e)
{
	uint32_t number = entry_number(e);

	return (uint64_t)(number >> CACHE_GROUP_BITS) * CACHE_GROUP_ENTRIES +
	       number % (1 << CACHE_GROUP_BITS) - 1;
}

static inline struct cache_record *nth_record(uint64_t n)
{
	return entry_record(nth_entry(n));
}

#endif
