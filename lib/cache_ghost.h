/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What a cache remembers of the entries that it evicted: 8 bytes each, in a
 * table of buckets of one cache line, each a short FIFO.  One put or take
 * touches one line; 3 to 5 notes are kept for each entry of the cache.
 *
 * Only hints: a full bucket forgets its oldest note, one key in some thousands
 * is taken for another, growing forgets all, and without memory nothing is
 * remembered.  Keys may be chosen to meet in one bucket: it forgets sooner.
 * Under the lock of the cache.
 */
#ifndef SEG_CACHE_GHOST_H
#define SEG_CACHE_GHOST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
	GHOST_WAYS = 8,
	GHOST_LEAST_PER_ENTRY = 3,
	GHOST_LEAST_BUCKETS = 8,
	GHOST_TAG_BITS = 16,
	GHOST_LEFT_BITS = 23,
	GHOST_USED_BITS = 24,
	GHOST_LEFT_MASK = (1 << GHOST_LEFT_BITS) - 1,
	GHOST_USED_MASK = (1 << GHOST_USED_BITS) - 1,
};

/* Times are what cache_policy.c makes of them, cut to so many bits. */
struct ghost_note {
	uint64_t tag : GHOST_TAG_BITS;	/* of the key's hash; 0: no note */
	uint64_t from_main : 1;
	uint64_t left : GHOST_LEFT_BITS;
	uint64_t used : GHOST_USED_BITS;
};

struct ghost_bucket {
	struct ghost_note note[GHOST_WAYS];	/* newest first */
};

struct ghost {
	struct ghost_bucket *bucket;
	uint64_t buckets;
};

/* Forgets all and frees the table. */
void ghost_clear(struct ghost *g);

/* Room for a cache of so many entries, if memory can be had. */
void ghost_grow(struct ghost *g, uint64_t entries);
static inline void ghost_reserve(struct ghost *g, uint64_t entries)
{
	if (g->buckets < GHOST_LEAST_BUCKETS ||
	    g->buckets * GHOST_WAYS < entries * GHOST_LEAST_PER_ENTRY)
		ghost_grow(g, entries);
}

/* The note's tag is made here. */
void ghost_put(struct ghost *g, uint64_t key, struct ghost_note note);

/* Takes the key's note out; false: there is none. */
bool ghost_take(struct ghost *g, uint64_t key, struct ghost_note *ret_note);

/* The high half, folded in between, brings every bit of the key into the upper
 * bits: keys with a pattern spread evenly. */
static inline uint64_t ghost_hash(uint64_t key)
{
	uint64_t h = key * 0x9e3779b97f4a7c15u;

	return (h ^ h >> 32) * 0xbf58476d1ce4e5b9u;
}

/* By the high half, which the tag is not made of. */
static inline struct ghost_bucket *ghost_bucket_of(const struct ghost *g,
						    uint64_t h)
{
	return &g->bucket[(h >> 32) * g->buckets >> 32];
}

/* Where the key's note is, or will be; NULL: nowhere. */
static inline const void *ghost_place(const struct ghost *g, uint64_t key)
{
	return g->bucket ? ghost_bucket_of(g, ghost_hash(key)) : NULL;
}

static inline uint64_t ghost_bytes(const struct ghost *g)
{
	return g->buckets * sizeof(*g->bucket);
}

#endif
