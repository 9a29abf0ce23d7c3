/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * An index of entries that no cache has, and keys for any place in it: the hash
 * can be undone.
 */
#ifndef SEG_TESTS_INDEXES_H
#define SEG_TESTS_INDEXES_H

#include "groups.h"
#include "pools.h"

#include "cache_index.h"

static struct cache_index ix;

static inline bool index_begin(void)
{
	groups_map();
	memset(&ix, 0, sizeof(ix));
	return cache_index_init(&ix, groups);
}

static inline void index_end(void)
{
	cache_index_clear(&ix);
	groups_unmap();
}

static inline void *value_of(uint64_t key)
{
	return (void *)(uintptr_t)(16 * (key + 1));
}

/* As a put does, with an entry that is new, or was used before. */
static inline void begin(struct cache_entry *e, uint64_t key)
{
	cache_index_change(&ix);
	entry_fill(e, key, value_of(key), 1);
	entry_begin(e, 0, 0);
}

static inline void insert(struct cache_entry *e, uint64_t key)
{
	begin(e, key);
	cache_index_insert(&ix, e);
}

static inline void remove_and_kill(struct cache_entry *e)
{
	cache_index_remove(&ix, e);
	require(entry_kill(e) != 0);
}

static inline uint64_t changes(void)
{
	return u64_load_acquire(&ix.changes);
}

/* All ways to look agree, but for long chains, which the first gives up. */
static inline struct cache_entry *find(uint64_t key)
{
	uint64_t word = 0, first_word = 0;
	struct cache_entry *e = cache_index_find(&ix, key, &word);
	struct cache_entry *first =
		cache_index_find_first(&ix, key, &first_word);

	assert_ptr_equal(cache_index_get(&ix, key), e);
	assert_true(!first || (first == e && first_word == word));
	if (e) {
		assert_int_equal(entry_look(e), word);
		assert_ptr_equal(cache_index_value(e, word), value_of(key));
	}
	return e;
}

/* 1 / 0x9e3779b97f4a7c15: each step doubles the bits that are right. */
static inline uint64_t inverse_of_factor(void)
{
	const uint64_t factor = UINT64_C(0x9e3779b97f4a7c15);
	uint64_t inverse = factor;

	for (int bits = 3; bits < 64; bits *= 2)
		inverse *= 2 - factor * inverse;
	return inverse;
}

/* Of those with that hash the n-th; 2^32 keys have it. */
static inline uint64_t key_of_hash(uint32_t hash, uint32_t n)
{
	return ((uint64_t)n << 32 | (hash ^ n)) * inverse_of_factor();
}

/* What a chain is in the order of. */
static inline uint32_t reversed(uint32_t hash)
{
	uint32_t r = 0;

	for (int bit = 0; bit < 32; bit++)
		r |= (hash >> bit & 1) << (31 - bit);
	return r;
}

/* The n-th of 16 keys of a bucket, in the order of its chain, as long as there
 * are no more than 4096 buckets. */
static inline uint64_t key_of_bucket(uint32_t bucket, uint32_t n)
{
	return key_of_hash(bucket | reversed(n) >> 28 << 12, 1);
}

#endif
