/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Key -> entry: chains, read without a lock, which grow bucket by bucket.
 *
 * Growth is linear hashing (Litwin 1980): with n buckets, base <= n < 2 base
 * (base a power of two), bucket n - base is split next, into itself and bucket
 * n.  Nothing ever stands still for a table to be copied.
 *
 * Buckets and links are numbers of entries: half as long as pointers, so that
 * more of them stay near.  0: none.
 *
 * A chain is in the order of the hashes read from the lowest bit on (Shalev and
 * Shavit 2003), so those that a split moves stand behind those that stay, and
 * it moves them all by three stores: (1) the new bucket, (2) the number of
 * buckets, (3) the end of the old chain, before the first that moved.  No
 * entry's place in the order ever changes.
 *
 * What was removed may be used again at once, for another key in another chain,
 * while look-ups still stand on it.  The memory stays that of entries, so they
 * only go astray.  Before the link or the key of an entry is written over by a
 * new use, `changes` is raised.
 *
 * Guarantees: (X1) What a look-up finds had the key, by the word that it got
 * with it (E5).  (X2) A look-up finds a key that was in the index during the
 * whole of the call.  Why: a miss counts only if the number of changes was the
 * same before and after the walk.  Then no link on the way was written over
 * meanwhile: who meets one that was sees the change that came before, and who
 * begins after a change sees what was unlinked before it (release -> acquire,
 * both).  So it walked as if what is removed stayed as it was, linked to
 * what stood behind it.  It reads the number of buckets, then the chain.  Until
 * a split ends the old chain, that is whole; who comes to its new end sees (2),
 * so that the number read again differs.  A replacement changes one link, so
 * that who walks meets the old entry or the new one.
 *
 * Look-ups are lock-free (each retry means that an entry came in or a bucket
 * was split); all else runs under the lock of the cache.  There are eight
 * buckets for each entry, so the second line that a look-up reads is mostly the
 * entry itself, and the processor mostly guesses so: a wrong guess costs as
 * much as a third of a hit.  Where so many would not stay in the nearer caches,
 * four have to do: then it costs more that a bucket is far.
 */
#ifndef SEG_CACHE_INDEX_H
#define SEG_CACHE_INDEX_H

#include <stddef.h>

#include "cache_entry.h"

#ifndef INDEX_BASE_BITS
#define INDEX_BASE_BITS 7
#endif
enum {
	INDEX_BASE = 1 << INDEX_BASE_BITS,
	INDEX_CHUNKS = 25,
	INDEX_STEPS = 16,	/* of a walk, before it looks if it strayed */
};

struct cache_index {
	/* read by every look-up, written when a bucket is split */
	_Alignas(CACHE_LINE) struct atomic_u64 shape;	/* mask, buckets */
	/* cache_slots.h: what is published by a number is there */
	struct cache_group *const *groups;
	/* where bucket 0 would be, if all were in that chunk; 0: not made */
	struct atomic_u64 chunk[INDEX_CHUNKS];
	/* read by misses, written by whoever changes what they walk on */
	_Alignas(CACHE_LINE) struct atomic_u64 changes;
	/* under the lock */
	void *memory[INDEX_CHUNKS];	/* of the chunks */
	uint32_t entries;
};

/* Of entries of these groups.  False: no memory. */
bool cache_index_init(struct cache_index *ix,
		      struct cache_group *const *groups);

/* Nobody uses it. */
void cache_index_clear(struct cache_index *ix);

/* Before an entry is used again, and filled (entry_fill()). */
static inline void cache_index_change(struct cache_index *ix)
{
	/* relaxed: under the lock */
	uint64_t changes = u64_load_relaxed(&ix->changes);

	/* release -> cache_index_find(): who begins with it sees what was
	 * unlinked before; it is released with what changes, too (X2) */
	u64_store_release(&ix->changes, changes + 1);
}

/* Needs no memory: without any the chains only get longer.  The key is not
 * there: of two that have it, a look-up would find the older one. */
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

static inline struct atomic_u32 *index_bucket_at(const struct cache_index *ix,
						 uint32_t bucket)
{
	/* acquire <- chunk_make() */
	uint64_t zero = u64_load_acquire(&ix->chunk[index_chunk(bucket)]);

	return (struct atomic_u32 *)(uintptr_t)zero + bucket;
}

/* NULL: of no number. */
static inline struct cache_entry *index_entry(const struct cache_index *ix,
					      uint32_t number)
{
	uint32_t at = number & ((1 << CACHE_GROUP_BITS) - 1);

	return number ? &ix->groups[number >> CACHE_GROUP_BITS]->entry[at] :
			NULL;
}

static inline uint32_t cache_index_buckets(const struct cache_index *ix)
{
	/* acquire <- split(): the last bucket */
	return index_buckets(u64_load_acquire(&ix->shape));
}

/* NULL: it is the last. */
static inline struct cache_entry *
cache_index_next(const struct cache_index *ix, const struct cache_entry *e)
{
	/* acquire <- cache_index_insert(), cache_index_remove(), split() */
	return index_entry(ix, u32_load_acquire(&e->next));
}

/* The first entry of a bucket; NULL: none. */
static inline struct cache_entry *
cache_index_first(const struct cache_index *ix, uint32_t bucket)
{
	/* acquire <- cache_index_insert(), split() */
	return index_entry(ix, u32_load_acquire(index_bucket_at(ix, bucket)));
}

/* The key will be looked for soon: brings its bucket near. */
static inline void cache_index_expect(const struct cache_index *ix,
				      uint64_t key)
{
	/* relaxed: a hint */
	uint64_t shape = u64_load_relaxed(&ix->shape);

	__builtin_prefetch(index_bucket_at(ix, index_bucket(shape, key)), 1);
}

/* Under the lock.  NULL: none */
static inline struct cache_entry *
cache_index_get(const struct cache_index *ix, uint64_t key)
{
	/* relaxed: under the lock, so nobody strays */
	uint64_t shape = u64_load_relaxed(&ix->shape);
	struct cache_entry *e =
		cache_index_first(ix, index_bucket(shape, key));

	while (e && entry_key(e) != key)
		e = cache_index_next(ix, e);
	return e;
}

/* The word of an entry, if it had the key by that (X1). */
static inline bool index_fits(const struct cache_entry *e, uint64_t key,
			      uint64_t *ret_word)
{
	*ret_word = entry_look(e);
	/* acquire <- entry_fill(): the word has changed (E5) */
	return u64_load_acquire(&e->key) == key;
}

/* NULL also after so many steps, as it may have strayed. */
static inline struct cache_entry *
index_find_behind(const struct cache_index *ix, struct cache_entry *e,
		  uint64_t key, uint64_t *ret_word)
{
	for (unsigned steps = INDEX_STEPS; steps; steps--) {
		e = cache_index_next(ix, e);
		if (!e)
			return NULL;
		if (index_fits(e, key, ret_word))
			return e;
	}
	return NULL;
}

/* The entry had the key by that word (X1).  NULL: it is not found at once.
 * Mostly it is the first of its chain. */
static inline __attribute__((always_inline)) struct cache_entry *
cache_index_find_first(const struct cache_index *ix, uint64_t key,
		       uint64_t *ret_word)
{
	/* acquire <- split(): the bucket (1) */
	uint64_t shape = u64_load_acquire(&ix->shape);
	struct cache_entry *e =
		cache_index_first(ix, index_bucket(shape, key));

	if (!e)
		return NULL;
	if (__builtin_expect(index_fits(e, key, ret_word), 1))
		return e;
	return index_find_behind(ix, e, key, ret_word);
}

/* The same; NULL: it is not there (X2). */
struct cache_entry *cache_index_find(const struct cache_index *ix, uint64_t key,
				     uint64_t *ret_word);

/* The value, then the word again: what the next two compare. */
static inline void *cache_index_look(const struct cache_entry *e,
				     uint64_t *ret_word)
{
	/* acquire <- entry_fill(), publish_value(): what it points to, and that
	 * the word has changed (E5) */
	void *value = ptr_load_acquire(&e->value);

	/* acquire <- entry_hide(), entry_kill(): who finds it ended finds what
	 * replaced it */
	*ret_word = u64_load_acquire(&e->word);
	return value;
}

/* The value of an entry that was found by that word; NULL: it may be that of
 * another key by now, or has ended, or is loading. */
static inline void *cache_index_value(const struct cache_entry *e,
				      uint64_t word)
{
	uint64_t now;
	void *value = cache_index_look(e, &now);

	return entry_lives_on(word, now) ? value : NULL;
}

/* The same by one comparison; NULL also if pins came or went meanwhile.  What
 * was dead or hidden by the first word is not live in the second with the same
 * version: nothing leads there (cache_entry.h). */
static inline void *cache_index_value_first(const struct cache_entry *e,
					    uint64_t word)
{
	uint64_t now;
	void *value = cache_index_look(e, &now);

	return now == (word | ENTRY_LIVE) ? value : NULL;
}

/* A look-up again, after it met an entry that ended meanwhile. */
struct index_ended {
	const struct cache_entry *entry;
	uint64_t version;
};

/* False: the same one was met before, it is about to be unlinked. */
static inline bool index_ended_anew(struct index_ended *ended,
				    const struct cache_entry *e, uint64_t word)
{
	bool anew = e != ended->entry || entry_version(word) != ended->version;

	*ended = (struct index_ended){ e, entry_version(word) };
	return anew;
}

#endif
