/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* See cache_index.h. */
#include "cache_index.h"

#include <stddef.h>

#include "keeper.h"
#include "os.h"

enum { SPLITS = 4 };	/* with each insertion, until there are enough */

static uint32_t chunk_first(unsigned chunk)
{
	return chunk ? (uint32_t)INDEX_BASE << (chunk - 1) : 0;
}

static uint32_t chunk_buckets(unsigned chunk)
{
	return chunk ? chunk_first(chunk) : INDEX_BASE;
}

static uint64_t head_of(const struct cache_entry *e, unsigned side)
{
	return (uint64_t)(uintptr_t)e | side;
}

static uint64_t chunk_offset(unsigned k)
{
	return chunk_first(k) * sizeof(struct atomic_u64);
}

static bool chunk_make(struct cache_index *ix, unsigned k)
{
	void *chunk;

	if (k >= INDEX_CHUNKS)
		return false;
	if (ix->memory[k])
		return true;
	chunk = os_calloc(chunk_buckets(k), sizeof(struct atomic_u64));
	if (!chunk)
		return false;
	ix->memory[k] = chunk;
	/* release -> index_bucket_at() */
	u64_store_release(&ix->chunk[k],
			  (uint64_t)(uintptr_t)chunk - chunk_offset(k));
	return true;
}

bool cache_index_init(struct cache_index *ix, bool (*settle)(struct work *))
{
	/* relaxed, both: not yet published */
	u64_store_relaxed(&ix->shape, index_shape(INDEX_BASE - 1, INDEX_BASE));
	u32_store_relaxed(&ix->settled, 1);
	ix->settle.run = settle;
	return chunk_make(ix, 0);
}

void cache_index_clear(struct cache_index *ix)
{
	for (unsigned k = 0; k < INDEX_CHUNKS; k++)
		os_free(ix->memory[k]);
}

void cache_index_settled(struct cache_index *ix)
{
	/* release -> may_begin_round(): all readers of old chains are gone */
	u32_store_release(&ix->settled, 1);
}

bool cache_index_is_settled(const struct cache_index *ix)
{
	/* acquire <- cache_index_settled() */
	return u32_load_acquire(&ix->settled);
}

/* Links the entries of a chain by the other link, into two chains. */
static void relink(uint64_t head, uint32_t bit, uint64_t ret_heads[2])
{
	unsigned side = head & 1;
	unsigned other = !side;
	struct cache_entry *last[2] = { NULL, NULL };

	ret_heads[0] = ret_heads[1] = other;
	for (struct cache_entry *e = index_entry(head); e;
	     e = cache_index_next(e, side)) {
		unsigned i = (index_hash(e->key) & bit) != 0;

		/* relaxed, both: nobody follows this link now (X2) */
		ptr_store_relaxed(&e->link[other], NULL);
		if (last[i])
			ptr_store_relaxed(&last[i]->link[other], e);
		else
			ret_heads[i] = head_of(e, other);
		last[i] = e;
	}
}

/* Bucket n - base into itself and bucket n, which is base higher. */
static void split(struct cache_index *ix, uint32_t mask, uint32_t n)
{
	uint32_t base = (mask + 1) / 2;
	struct atomic_u64 *low = index_bucket_at(ix, n - base);
	uint64_t heads[2];

	/* relaxed: under the lock */
	relink(u64_load_relaxed(low), base, heads);
	/* release, all -> cache_index_find(), in this order (X1) */
	u64_store_release(index_bucket_at(ix, n), heads[1]);
	u64_store_release(&ix->shape, index_shape(mask, n + 1));
	u64_store_release(low, heads[0]);
	if (n == mask) {
		/* relaxed: under the lock */
		u32_store_relaxed(&ix->settled, 0);
		keeper_defer(&ix->settle);
	}
}

/* A round is over: the next needs a grace period (X2), and memory. */
static bool may_begin_round(struct cache_index *ix, uint32_t mask)
{
	return cache_index_is_settled(ix) && mask < UINT32_MAX / 4 &&
	       chunk_make(ix, index_chunk(mask + 1));
}

bool cache_index_grow(struct cache_index *ix)
{
	/* relaxed: under the lock */
	uint64_t shape = u64_load_relaxed(&ix->shape);
	uint32_t mask = index_mask(shape);
	uint32_t n = index_buckets(shape);

	if (n / 2 >= ix->entries || (n > mask && !may_begin_round(ix, mask)))
		return false;
	split(ix, n > mask ? 2 * mask + 1 : mask, n);
	return true;
}

void cache_index_insert(struct cache_index *ix, struct cache_entry *e)
{
	/* relaxed, both: under the lock */
	uint64_t shape = u64_load_relaxed(&ix->shape);
	uint32_t number = index_bucket(shape, e->key);
	struct atomic_u64 *bucket = index_bucket_at(ix, number);
	uint64_t head = u64_load_relaxed(bucket);

	/* relaxed: published next */
	ptr_store_relaxed(&e->link[head & 1], index_entry(head));
	/* release -> cache_index_first() */
	u64_store_release(bucket, head_of(e, head & 1));
	ix->entries++;
	for (int i = 0; i < SPLITS && cache_index_grow(ix); i++)
		;
}

/* Lets what leads to the entry lead on to what stands behind it, by way of
 * another entry or at once; its own link stays (X3). */
static void bypass(struct cache_index *ix, struct cache_entry *e,
		   struct cache_entry *by)
{
	/* relaxed, all loads: under the lock */
	uint64_t shape = u64_load_relaxed(&ix->shape);
	uint32_t number = index_bucket(shape, e->key);
	struct atomic_u64 *bucket = index_bucket_at(ix, number);
	uint64_t head = u64_load_relaxed(bucket);
	unsigned side = head & 1;
	struct cache_entry *to = ptr_load_relaxed(&e->link[side]);
	struct cache_entry *at = index_entry(head);

	if (by) {
		/* relaxed: published next */
		ptr_store_relaxed(&by->link[side], to);
		to = by;
	}
	if (at == e) {
		/* release -> cache_index_first() */
		u64_store_release(bucket, head_of(to, side));
		return;
	}
	/* relaxed: under the lock */
	while (ptr_load_relaxed(&at->link[side]) != e)
		at = ptr_load_relaxed(&at->link[side]);
	/* release -> cache_index_next() */
	ptr_store_release(&at->link[side], to);
}

void cache_index_remove(struct cache_index *ix, struct cache_entry *e)
{
	bypass(ix, e, NULL);
	ix->entries--;
}

void cache_index_replace(struct cache_index *ix, struct cache_entry *old,
			 struct cache_entry *e)
{
	bypass(ix, old, e);
}

uint64_t cache_index_bytes(const struct cache_index *ix)
{
	uint64_t bytes = 0;

	for (unsigned k = 0; k < INDEX_CHUNKS; k++)
		/* relaxed: only whether it is there */
		if (u64_load_relaxed(&ix->chunk[k]))
			bytes += (uint64_t)chunk_buckets(k) *
				 sizeof(struct atomic_u64);
	return bytes;
}

bool cache_index_is_valid(const struct cache_index *ix)
{
	/* relaxed: under the lock */
	uint64_t shape = u64_load_relaxed(&ix->shape);
	uint32_t seen = 0;
	struct cache_entry *e;
	unsigned side;

	for (uint32_t b = 0; b < index_buckets(shape); b++)
		for (e = cache_index_first(ix, b, &side); e;
		     e = cache_index_next(e, side))
			if (index_bucket(shape, e->key) != b ||
			    ++seen > ix->entries)
				return false;
	return seen == ix->entries;
}
