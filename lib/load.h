/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What is taken out of a stash in one step: slices of one class, which are
 * given to their regions, or claims.
 */
#ifndef SEG_LOAD_H
#define SEG_LOAD_H

#include "class_pool.h"

struct load {
	uint32_t count, claims;
	struct parked parked[STASH_BATCH];
	struct claim claim[STASH_BATCH];
};

static inline struct class_pool *magazine_pool(const struct magazine *m)
{
	return ptr_load_relaxed(&m->pool); /* relaxed: as its reader may */
}

static inline uint32_t stash_claims(const struct stash *st)
{
	/* relaxed: as magazine_pool() */
	return u32_load_relaxed(&st->claim_count);
}

/* Slices came from a region or go to one. */
void stash_set_count(struct stash *st, int class_index, uint32_t count);

/* It is empty: from now on it is for that pool, or for none. */
void magazine_bind(struct magazine *m, struct class_pool *cp);

/* Takes up to so many slices, STASH_BATCH at most, from the top. */
void load_slices(struct load *load, struct stash *st, int class_index,
		 uint32_t most);
/* Takes the last claims. */
void load_claims(struct load *load, struct stash *st);

/* Gives parked slices to their regions. */
void load_give(struct allocator *a, struct parked *parked, uint32_t count);

/* The place of a parked slice in its region. */
static inline uint32_t parked_slice(const struct region *r,
				    const struct parked *at)
{
	return (uint32_t)(at->generation - r->generations);
}

#endif
