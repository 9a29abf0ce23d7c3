/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Type-stable objects: memory that was an object of the slab stays one until
 * the slab is cleared, so that a stale pointer can be looked at.
 *
 * Objects are numbered; chunk k holds 2^base_bits << k of them, so that a chunk
 * is found by counting zeros.  The free list is a stack of numbers:
 *
 *   | 63..28 tag | 27..0 number + 1 of the first, 0: empty |
 *
 * Guarantee (S1): an object has one owner.  A get reads the first object's
 * link, which may change under it only if that object was got and put back
 * meanwhile; every get raises the tag, so the exchange then fails.  2^36 gets
 * of 6 ns take 412 s, between one look and its exchange, to the exact number;
 * the owner's state (see page.c) would still show it.
 * The memory is type-stable, so the link can be read at any time.  Lock-free,
 * but for the mapping of a chunk.
 */
#ifndef SEG_SLAB_H
#define SEG_SLAB_H

#include <stddef.h>

#include "atomic.h"

enum { SLAB_CHUNKS = 24, SLAB_NUMBER_BITS = 28 };

/* The first member of each object. */
struct slab_item {
	struct atomic_u64 next;	/* number + 1 of the next free one */
	uint32_t number;
};

struct slab {
	size_t object_bytes;
	unsigned base_bits;		/* of the first chunk's objects */
	struct atomic_u64 head;
	struct atomic_u32 used;		/* numbers that ever were */
	struct atomic_ptr chunk[SLAB_CHUNKS];
};

/* A zeroed or a recycled object; NULL: no memory. */
struct slab_item *slab_get(struct slab *s);
void slab_put(struct slab *s, struct slab_item *item);

/* The object of a number below slab_used(), in use or not; NULL: not yet. */
struct slab_item *slab_at(struct slab *s, uint32_t number);
uint32_t slab_used(struct slab *s);

uint64_t slab_bytes(struct slab *s);

/* Gives the chunks back; no object is out, and nobody uses the slab.  False:
 * the kernel did not take one; it can be used, or cleared, again. */
bool slab_clear(struct slab *s);

#endif
