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
	BUCKETS_NEAR = 1 << 16,		/* some share of a second-level cache */
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

static uint64_t chunk_offset(unsigned k)
{
	return chunk_first(k) * sizeof(struct atomic_u32);
}

static bool chunk_make(struct cache_index *ix, unsigned k)
{
	void *chunk;

	if (k >= INDEX_CHUNKS)
		return false;
	if (ix->memory[k])
		return true;
	chunk = os_calloc(chunk_buckets(k), sizeof(struct atomic_u32));
	if (!chunk)
		return false;
	ix->memory[k] = chunk;
	/* release -> index_bucket_at() */
	u64_store_release(&ix->chunk[k],
			  (uint64_t)(uintptr_t)chunk - chunk_offset(k));
	return true;
}

bool cache_index_init(struct cache_index *ix, struct cache_group *const *groups)
{
	ix->groups = groups;
	/* relaxed: not yet published */
	u64_store_relaxed(&ix->shape, index_shape(INDEX_BASE - 1, INDEX_BASE));
	return chunk_make(ix, 0);
}

void cache_index_clear(struct cache_index *ix)
{
	for (unsigned k = 0; k < INDEX_CHUNKS; k++)
		os_free(ix->memory[k]);
}

/* Where a number stands: a bucket, or the link of an entry. */
static uint32_t number_at(const struct atomic_u32 *place)
{
	return u32_load_relaxed(place);	/* relaxed: under the lock */
}

static struct atomic_u32 *bucket_of(const struct cache_index *ix, uint64_t key)
{
	/* relaxed: under the lock */
	uint64_t shape = u64_load_relaxed(&ix->shape);

	return index_bucket_at(ix, index_bucket(shape, key));
}

/* Bucket n - base into itself and bucket n, which is base higher. */
static void split(struct cache_index *ix, uint32_t mask, uint32_t n)
{
	uint32_t base = (mask + 1) / 2;
	struct atomic_u32 *place = index_bucket_at(ix, n - base);
	struct cache_entry *e;

	while ((e = index_entry(ix, number_at(place))) != NULL &&
	       !(index_hash(entry_key(e)) & base))
		place = &e->next;
	/* release, all -> cache_index_find(), in this order (X2) */
	u32_store_release(index_bucket_at(ix, n), number_at(place));
	u64_store_release(&ix->shape, index_shape(mask, n + 1));
	u32_store_release(place, 0);
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

/* By the lowest bit in which they differ. */
static bool stands_before(uint32_t hash, uint32_t other)
{
	uint32_t differ = hash ^ other;

	return (other & differ & -differ) != 0;
}

/* Behind all that do not stand behind that hash. */
static struct atomic_u32 *place_for(const struct cache_index *ix, uint64_t key)
{
	struct atomic_u32 *place = bucket_of(ix, key);
	struct cache_entry *e;

	while ((e = index_entry(ix, number_at(place))) != NULL &&
	       !stands_before(index_hash(key), index_hash(entry_key(e))))
		place = &e->next;
	return place;
}

static struct atomic_u32 *place_of(const struct cache_index *ix,
				   const struct cache_entry *e)
{
	struct atomic_u32 *place = bucket_of(ix, entry_key(e));

	while (number_at(place) != entry_number(e))
		place = &index_entry(ix, number_at(place))->next;
	return place;
}

void cache_index_insert(struct cache_index *ix, struct cache_entry *e)
{
	struct atomic_u32 *place = place_for(ix, entry_key(e));

	/* release -> cache_index_next(): it has changed (X2) */
	u32_store_release(&e->next, number_at(place));
	/* release -> cache_index_first(), cache_index_next() */
	u32_store_release(place, entry_number(e));
	ix->entries++;
	for (int i = 0; i < SPLITS && grow(ix); i++)
		;
}

/* Its own link stays (X2). */
void cache_index_remove(struct cache_index *ix, struct cache_entry *e)
{
	/* release -> cache_index_first(), cache_index_next() */
	u32_store_release(place_of(ix, e), number_at(&e->next));
	ix->entries--;
}

void cache_index_replace(struct cache_index *ix, struct cache_entry *old,
			 struct cache_entry *e)
{
	/* release, both: as in cache_index_insert() */
	u32_store_release(&e->next, number_at(&old->next));
	u32_store_release(place_of(ix, old), entry_number(e));
}

/* Along a chain.  Who strays may never come to an end: it looks now and then
 * whether something has changed. */
static struct cache_entry *walk(const struct cache_index *ix, uint64_t shape,
				uint64_t changes, uint64_t key,
				uint64_t *ret_word)
{
	unsigned steps = 0;
	struct cache_entry *e =
		cache_index_first(ix, index_bucket(shape, key));

	for (; e; e = cache_index_next(ix, e)) {
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
				 sizeof(struct atomic_u32);
	return bytes;
}

/* In order, and in the right bucket; NULL: so all are. */
static const struct cache_entry *
find_misplaced(const struct cache_index *ix, uint64_t shape, uint32_t bucket,
	       uint32_t *seen)
{
	const struct cache_entry *e = cache_index_first(ix, bucket), *next;

	for (; e; e = next) {
		uint32_t hash = index_hash(entry_key(e));

		next = cache_index_next(ix, e);
		if (index_fold(shape, hash) != bucket || ++*seen > ix->entries)
			return e;
		if (next && stands_before(index_hash(entry_key(next)), hash))
			return e;
	}
	return NULL;
}

bool cache_index_is_valid(const struct cache_index *ix)
{
	/* relaxed: under the lock */
	uint64_t shape = u64_load_relaxed(&ix->shape);
	uint32_t seen = 0;

	for (uint32_t b = 0; b < index_buckets(shape); b++)
		if (find_misplaced(ix, shape, b, &seen))
			return false;
	return seen == ix->entries;
}
