/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* See cache_index.h. */
#include "cache_index.h"

#include <stddef.h>

#include "os.h"

#ifndef INDEX_BUCKETS
#define INDEX_BUCKETS 8
#endif
enum {
	BUCKETS = INDEX_BUCKETS,	/* for each entry, if near */
	BUCKETS_NEAR = 1 << 15,		/* some share of a second-level cache */
	BUCKETS_FAR = BUCKETS / 2,	/* for each entry, if more */
	SPLITS = BUCKETS * 3 / 2,	/* with an insertion, until enough */
};

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

bool cache_index_init(struct cache_index *ix)
{
	/* relaxed: not yet published */
	u64_store_relaxed(&ix->shape, index_shape(INDEX_BASE - 1, INDEX_BASE));
	return chunk_make(ix, 0);
}

void cache_index_clear(struct cache_index *ix)
{
	for (unsigned k = 0; k < INDEX_CHUNKS; k++)
		os_free(ix->memory[k]);
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
		unsigned i = (index_hash(entry_key(e)) & bit) != 0;

		/* release, both -> cache_index_next(): it has changed (X2) */
		ptr_store_release(&e->link[other], NULL);
		if (last[i])
			ptr_store_release(&last[i]->link[other], e);
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

	cache_index_change(ix);
	/* relaxed: under the lock */
	relink(u64_load_relaxed(low), base, heads);
	/* release, all -> cache_index_find(), in this order (X2) */
	u64_store_release(index_bucket_at(ix, n), heads[1]);
	u64_store_release(&ix->shape, index_shape(mask, n + 1));
	u64_store_release(low, heads[0]);
}

/* A round is over: the next needs memory. */
static bool may_begin_round(struct cache_index *ix, uint32_t mask)
{
	return mask < UINT32_MAX / 4 && chunk_make(ix, index_chunk(mask + 1));
}

static uint64_t enough_buckets(uint64_t entries)
{
	uint64_t near = entries * BUCKETS;
	uint64_t far = entries * BUCKETS_FAR;

	if (near <= BUCKETS_NEAR)
		return near;
	return far > BUCKETS_NEAR ? far : BUCKETS_NEAR;
}

/* Splits a bucket; false: there are enough, or there is no memory. */
static bool grow(struct cache_index *ix)
{
	/* relaxed: under the lock */
	uint64_t shape = u64_load_relaxed(&ix->shape);
	uint32_t mask = index_mask(shape);
	uint32_t n = index_buckets(shape);

	if (n >= enough_buckets(ix->entries))
		return false;
	if (n > mask && !may_begin_round(ix, mask))
		return false;
	split(ix, n > mask ? 2 * mask + 1 : mask, n);
	return true;
}

/* Of a chain; NULL: it is empty. */
static struct cache_entry *last_of(struct cache_entry *e, unsigned side)
{
	struct cache_entry *last = NULL;

	/* relaxed: under the lock */
	for (; e; e = ptr_load_relaxed(&e->link[side]))
		last = e;
	return last;
}

void cache_index_insert(struct cache_index *ix, struct cache_entry *e)
{
	/* relaxed, both: under the lock */
	uint64_t shape = u64_load_relaxed(&ix->shape);
	uint32_t number = index_bucket(shape, entry_key(e));
	struct atomic_u64 *bucket = index_bucket_at(ix, number);
	uint64_t head = u64_load_relaxed(bucket);
	unsigned side = head & 1;
	struct cache_entry *last = last_of(index_entry(head), side);

	/* release -> cache_index_next(): it has changed (X2) */
	ptr_store_release(&e->link[side], NULL);
	if (last)
		/* release -> cache_index_next() */
		ptr_store_release(&last->link[side], e);
	else
		/* release -> cache_index_first() */
		u64_store_release(bucket, head_of(e, side));
	ix->entries++;
	for (int i = 0; i < SPLITS && grow(ix); i++)
		;
}

/* Lets what leads to the entry lead on to what stands behind it, by way of
 * another entry or at once; its own link stays (X2). */
static inline void bypass(struct cache_index *ix, struct cache_entry *e,
		   struct cache_entry *by)
{
	/* relaxed, all loads: under the lock */
	uint64_t shape = u64_load_relaxed(&ix->shape);
	uint32_t number = index_bucket(shape, entry_key(e));
	struct atomic_u64 *bucket = index_bucket_at(ix, number);
	uint64_t head = u64_load_relaxed(bucket);
	unsigned side = head & 1;
	struct cache_entry *to = ptr_load_relaxed(&e->link[side]);
	struct cache_entry *at = index_entry(head);

	if (by) {
		/* release -> cache_index_next(): it has changed (X2) */
		ptr_store_release(&by->link[side], to);
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

/* Along a chain.  Who strays may never come to an end: it looks now and then
 * whether something has changed. */
static struct cache_entry *walk(const struct cache_index *ix, uint64_t shape,
				uint64_t changes, uint64_t key,
				uint64_t *ret_word)
{
	unsigned side, steps = 0;
	struct cache_entry *e =
		cache_index_first(ix, index_bucket(shape, key), &side);

	for (; e; e = cache_index_next(e, side)) {
		*ret_word = entry_look(e);
		/* acquire, both: as in cache_index_find_first(); and X2 */
		if (u64_load_acquire(&e->key) == key)
			return e;
		if (++steps % INDEX_STEPS == 0 &&
		    u64_load_acquire(&ix->changes) != changes)
			return NULL;
	}
	return NULL;
}

struct cache_entry *cache_index_find(const struct cache_index *ix, uint64_t key,
				     uint64_t *ret_word)
{
	/* acquire, both <- split(), cache_index_change() (X2) */
	uint64_t changes = u64_load_acquire(&ix->changes);
	uint64_t shape = u64_load_acquire(&ix->shape);

	for (;;) {
		struct cache_entry *e =
			walk(ix, shape, changes, key, ret_word);
		uint64_t changes_before = changes, shape_before = shape;

		if (e)
			return e;
		/* acquire, both: as above */
		changes = u64_load_acquire(&ix->changes);
		shape = u64_load_acquire(&ix->shape);
		if (changes == changes_before && shape == shape_before)
			return NULL;
	}
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
			if (index_bucket(shape, entry_key(e)) != b ||
			    ++seen > ix->entries)
				return false;
	return seen == ix->entries;
}
