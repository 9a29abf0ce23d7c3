/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Key -> entry: chains under RCU, which grow bucket by bucket.
 *
 * Growth is linear hashing (Litwin 1980): with n buckets, base <= n < 2 base
 * (base a power of two), bucket n - base is split next, into itself and bucket
 * n.  Nothing ever stands still for a table to be copied.
 *
 * An entry has two links.  The lowest bit of a bucket says by which of them its
 * chain is linked.  A split links the entries anew by the other link, so that
 * readers inside the old chain go on in it undisturbed, and publishes: (1) the
 * new bucket, (2) the number of buckets, (3) the old bucket.
 *
 * Guarantees: (X1) A look-up finds a key that was in the index during the whole
 * of the call.  Why: it reads the number of buckets, then the bucket's chain.
 * If that chain is one of before a split, it is whole.  If it is one of after,
 * (2) came before (3), so that the number read again after the miss differs,
 * and the look-up starts again.  A replacement changes one link, so that who
 * walks the chain meets the old entry or the new one.
 * (X2) The link that a split writes is one that no reader follows: it was the
 * chain's before the last split of the bucket.  Between the two lies a grace
 * period: a round of splits begins only when one has passed since the end of
 * the round before.  (X3) What is removed stays linked to what stood behind it
 * until the caller reuses it, after a grace period.
 *
 * Look-ups are lock-free (each retry means that a bucket was split), in a read
 * section; all else runs under the lock of the cache.  There are two buckets or
 * more for each entry, so the second line that a look-up reads is mostly the
 * entry itself.
 */
#ifndef SEG_CACHE_INDEX_H
#define SEG_CACHE_INDEX_H

#include <stddef.h>

#include "cache_entry.h"
#include "work_queue.h"

#ifndef INDEX_BASE_BITS
#define INDEX_BASE_BITS 6
#endif
enum { INDEX_BASE = 1 << INDEX_BASE_BITS, INDEX_CHUNKS = 25 };

struct cache_index {
	/* read by every look-up, written when a bucket is split */
	_Alignas(CACHE_LINE) struct atomic_u64 shape;	/* mask, buckets */
	/* where bucket 0 would be, if all were in that chunk; 0: not made */
	struct atomic_u64 chunk[INDEX_CHUNKS];
	/* under the lock */
	void *memory[INDEX_CHUNKS];	/* of the chunks */
	uint32_t entries;
	struct atomic_u32 settled;	/* grace period after a round */
	struct work settle;		/* to be deferred when a round ends */
};

/* False: no memory.  settle runs after the grace period that ends a round: it
 * calls cache_index_settled(), then grows, if the table is too small still. */
bool cache_index_init(struct cache_index *ix, bool (*settle)(struct work *));
void cache_index_settled(struct cache_index *ix);
bool cache_index_is_settled(const struct cache_index *ix);

/* Splits a bucket; false: there are enough, or it can't be done now. */
bool cache_index_grow(struct cache_index *ix);

/* Nobody uses it, and the keeper is done with it. */
void cache_index_clear(struct cache_index *ix);

/* Needs no memory: without any the chains only get longer.  The key is not
 * there: who looks for it must not be overtaken by an entry in front of it. */
void cache_index_insert(struct cache_index *ix, struct cache_entry *e);

/* The one in the other's place, in one step; they have the same key. */
void cache_index_replace(struct cache_index *ix, struct cache_entry *old,
			 struct cache_entry *e);
void cache_index_remove(struct cache_index *ix, struct cache_entry *e);


uint64_t cache_index_bytes(const struct cache_index *ix);

/* Under the lock: each entry in its bucket, once. */
bool cache_index_is_valid(const struct cache_index *ix);

/* ---- the read side, inlined into hits ---- */

/* What a look-up reads at once: the mask of the round and the buckets. */
static inline uint64_t index_shape(uint32_t mask, uint32_t buckets)
{
	return (uint64_t)mask << 32 | buckets;
}

static inline uint32_t index_mask(uint64_t shape)
{
	return (uint32_t)(shape >> 32);
}

static inline uint32_t index_buckets(uint64_t shape)
{
	return (uint32_t)shape;
}

/* The multiplication spreads runs and strides of keys over the upper bits,
 * which are folded into those that are used. */
static inline uint32_t index_hash(uint64_t key)
{
	uint64_t x = key * UINT64_C(0x9e3779b97f4a7c15);

	return (uint32_t)(x ^ x >> 32);
}

static inline uint32_t index_fold(uint64_t shape, uint32_t hash)
{
	uint32_t mask = index_mask(shape);
	uint32_t bucket = hash & mask;

	return bucket < index_buckets(shape) ? bucket : bucket & mask >> 1;
}

static inline uint32_t index_bucket(uint64_t shape, uint64_t key)
{
	return index_fold(shape, index_hash(key));
}

/* Chunk 0 has the first INDEX_BASE buckets, chunk k > 0 the upper half of the
 * first INDEX_BASE << k. */
static inline unsigned index_chunk(uint32_t bucket)
{
	uint32_t twice = (bucket >> INDEX_BASE_BITS) * 2;

	return 31 - (unsigned)__builtin_clz(twice | 1);
}

/* A bucket holds the first entry, and in the lowest bit the side. */
static inline struct atomic_u64 *index_bucket_at(const struct cache_index *ix,
						 uint32_t bucket)
{
	/* acquire <- chunk_make() */
	uint64_t zero = u64_load_acquire(&ix->chunk[index_chunk(bucket)]);

	return (struct atomic_u64 *)(uintptr_t)zero + bucket;
}

static inline struct cache_entry *index_entry(uint64_t head)
{
	return (struct cache_entry *)(uintptr_t)(head & ~UINT64_C(1));
}

static inline uint32_t cache_index_buckets(const struct cache_index *ix)
{
	/* acquire <- split(): the last bucket */
	return index_buckets(u64_load_acquire(&ix->shape));
}

static inline struct cache_entry *
cache_index_next(const struct cache_entry *e, unsigned side)
{
	/* acquire <- cache_index_insert(), cache_index_remove(), split() */
	return ptr_load_acquire(&e->link[side]);
}

/* The first entry of a bucket and its side; NULL: none. */
static inline struct cache_entry *
cache_index_first(const struct cache_index *ix, uint32_t bucket,
		  unsigned *ret_side)
{
	/* acquire <- cache_index_insert(), split() */
	uint64_t head = u64_load_acquire(index_bucket_at(ix, bucket));

	*ret_side = head & 1;
	return index_entry(head);
}

/* In a read section or under the lock.  NULL: none */
static inline struct cache_entry *
cache_index_find(const struct cache_index *ix, uint64_t key)
{
	/* acquire <- split(): the bucket (1) */
	uint64_t shape = u64_load_acquire(&ix->shape);

	for (;;) {
		unsigned side;
		struct cache_entry *e;
		uint64_t before = shape;

		e = cache_index_first(ix, index_bucket(shape, key), &side);
		while (e && e->key != key)
			e = cache_index_next(e, side);
		if (e)
			return e;
		/* acquire as above; newer than the bucket was (X1) */
		shape = u64_load_acquire(&ix->shape);
		if (shape == before)
			return NULL;
	}
}

#endif
