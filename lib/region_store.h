/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The structs of a pool's regions, with their arrays: type-stable, since a
 * wrong release looks at them without a read section (R5).  Structs stand close
 * together, in chunks, with their arrays if these are small; else the arrays
 * have a mapping of their own, and no backing while they are not in use.
 *
 * They are found by the number of their slices.  Who needs one takes all that
 * are idle, and puts those behind the first that fits back in one step: so
 * nobody reads the link of one that somebody else may take, and the stack needs
 * no tag.  Who comes meanwhile maps another one.  Lock-free but for the
 * mapping.
 */
#ifndef SEG_REGION_STORE_H
#define SEG_REGION_STORE_H

#include "region.h"

enum { REGION_STORE_SIZES = 15 };	/* 1 to REGION_MAX_SLICES slices */

struct region_store {
	struct atomic_ptr idle[REGION_STORE_SIZES];
	struct atomic_ptr chunk;	/* the last one */
	struct atomic_u64 bytes;	/* what is backed, about */
};

/* One that region_begin() was called for with `taken`; NULL: no memory. */
struct region *region_store_get(struct region_store *s, uint32_t slices,
				uint32_t taken);
/* After a grace period; all its slices are unused. */
void region_store_put(struct region_store *s, struct region *r);

/* Gives them back, none is in use.  False: the kernel did not take one; the
 * store can be used, or cleared, again. */
bool region_store_clear(struct region_store *s);

#endif
