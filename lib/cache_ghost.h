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
#include <stdint.h>

enum {
	GHOST_WAYS = 8,
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
void ghost_reserve(struct ghost *g, uint64_t entries);

/* The note's tag is made here. */
void ghost_put(struct ghost *g, uint64_t key, struct ghost_note note);

/* Takes the key's note out; false: there is none. */
bool ghost_take(struct ghost *g, uint64_t key, struct ghost_note *ret_note);

/* The key will be put or taken soon: brings its bucket near. */
void ghost_expect(const struct ghost *g, uint64_t key);

uint64_t ghost_bytes(const struct ghost *g);

#endif
