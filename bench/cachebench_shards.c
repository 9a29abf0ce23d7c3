/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What one writes without a library: 16 shards, each a chained table and a list
 * in order of use under a mutex.  A hit moves the entry to the front, under the
 * lock of its shard.  A reference is counted in the entry and given back
 * without the lock; who gives back the last one frees.  It is called, as the
 * others are, and not inlined into the loop.
 */
#include <pthread.h>
#include <stdlib.h>

#include "cachebench.h"

#define CALLED __attribute__((noinline)) static

enum { SHARDS = 16, SHARD_BITS = 4, LINE = 64 };

struct shard_entry {
	struct shard_entry *next;		/* in the chain */
	uint64_t key;
	void *value;
	struct shard_entry *newer, *older;	/* in order of use */
	uint64_t weight;
	uint32_t references;			/* atomic; the table's is one */
};

struct shard {
	_Alignas(LINE) pthread_mutex_t lock;
	struct shard_entry **buckets;
	uint64_t mask;
	struct shard_entry used;	/* the list's head: newest, oldest */
	uint64_t weight, most;
};

struct shards {
	struct shard shard[SHARDS];
};

static inline struct shard *shard_of(void *state, uint64_t hash)
{
	return &((struct shards *)state)->shard[hash >> (64 - SHARD_BITS)];
}

static inline void list_remove(struct shard_entry *entry)
{
	entry->newer->older = entry->older;
	entry->older->newer = entry->newer;
}

static inline void list_push(struct shard *shard, struct shard_entry *entry)
{
	entry->newer = &shard->used;
	entry->older = shard->used.older;
	entry->older->newer = entry;
	shard->used.older = entry;
}

static inline struct shard_entry **chain_find(struct shard *shard,
					      uint64_t hash, uint64_t key)
{
	struct shard_entry **at = &shard->buckets[hash & shard->mask];

	while (*at && (*at)->key != key)
		at = &(*at)->next;
	return at;
}

/* Under the lock; the value of an entry never changes. */
static inline struct shard_entry *shard_use(struct shard *shard, uint64_t hash,
					    uint64_t key)
{
	struct shard_entry *entry = *chain_find(shard, hash, key);

	if (entry && shard->used.older != entry) {
		list_remove(entry);
		list_push(shard, entry);
	}
	return entry;
}

CALLED const void *do_hit(void *state, uint64_t key)
{
	uint64_t hash = bench_mix(key);
	struct shard *shard = shard_of(state, hash);
	struct shard_entry *entry;
	const void *value;

	pthread_mutex_lock(&shard->lock);
	entry = shard_use(shard, hash, key);
	value = entry ? entry->value : NULL;
	pthread_mutex_unlock(&shard->lock);
	return value;
}

CALLED void entry_put_back(struct shard_entry *entry)
{
	if (__atomic_sub_fetch(&entry->references, 1, __ATOMIC_ACQ_REL) == 0)
		free(entry);
}

CALLED struct shard_entry *entry_get(void *state, uint64_t key)
{
	uint64_t hash = bench_mix(key);
	struct shard *shard = shard_of(state, hash);
	struct shard_entry *entry;

	pthread_mutex_lock(&shard->lock);
	entry = shard_use(shard, hash, key);
	if (entry)
		__atomic_add_fetch(&entry->references, 1, __ATOMIC_RELAXED);
	pthread_mutex_unlock(&shard->lock);
	return entry;
}

static inline const void *do_pin(void *state, uint64_t key)
{
	struct shard_entry *entry = entry_get(state, key);
	const void *value;

	if (!entry)
		return NULL;
	value = entry->value;
	entry_put_back(entry);
	return value;
}

/* Unlinks the oldest entries until the rest is light enough; gives a chain. */
static struct shard_entry *shard_shrink(struct shard *shard)
{
	struct shard_entry *gone = NULL, *oldest;

	while (shard->weight > shard->most) {
		oldest = shard->used.newer;
		list_remove(oldest);
		*chain_find(shard, bench_mix(oldest->key), oldest->key) =
			oldest->next;
		shard->weight -= oldest->weight;
		oldest->next = gone;
		gone = oldest;
	}
	return gone;
}

static struct shard_entry *entry_new(uint64_t key)
{
	struct shard_entry *entry = malloc(sizeof(*entry));

	if (!entry)
		bench_die("malloc");
	entry->key = key;
	entry->value = entry;
	entry->weight = BENCH_WEIGHT;
	entry->references = 1;
	return entry;
}

CALLED void do_put(void *state, uint64_t key)
{
	uint64_t hash = bench_mix(key);
	struct shard *shard = shard_of(state, hash);
	struct shard_entry *entry = entry_new(key), *gone, **at;

	entry->next = NULL;
	pthread_mutex_lock(&shard->lock);
	at = chain_find(shard, hash, key);
	if (*at) {
		gone = entry;
	} else {
		*at = entry;
		list_push(shard, entry);
		shard->weight += entry->weight;
		gone = shard_shrink(shard);
	}
	pthread_mutex_unlock(&shard->lock);
	while (gone) {
		entry = gone;
		gone = gone->next;
		entry_put_back(entry);
	}
}

#include "cachebench_loops.h"

static void *shards_setup(const struct bench_setup *setup)
{
	struct shards *shards = aligned_alloc(LINE, sizeof(*shards));
	uint64_t buckets = 1;

	if (!shards)
		bench_die("aligned_alloc");
	while (buckets < setup->capacity / SHARDS)
		buckets *= 2;
	for (int i = 0; i < SHARDS; i++) {
		struct shard *shard = &shards->shard[i];

		pthread_mutex_init(&shard->lock, NULL);
		shard->buckets = calloc(buckets, sizeof(*shard->buckets));
		if (!shard->buckets)
			bench_die("calloc");
		shard->mask = buckets - 1;
		shard->used.newer = shard->used.older = &shard->used;
		shard->weight = 0;
		shard->most = setup->capacity * BENCH_WEIGHT / SHARDS;
	}
	return shards;
}

static void shards_teardown(void *state)
{
	for (int i = 0; i < SHARDS; i++) {
		struct shard *shard = &((struct shards *)state)->shard[i];
		struct shard_entry *entry;

		while ((entry = shard->used.older) != &shard->used) {
			list_remove(entry);
			free(entry);
		}
		pthread_mutex_destroy(&shard->lock);
		free(shard->buckets);
	}
	free(state);
}

const struct bench_subject bench_shards = {
	.name = "mutex-lru",
	.loops = (1 << LOOPS) - 1,
	.setup = shards_setup,
	.teardown = shards_teardown,
	.put = loop_put,
	.loop = { loop_hit, loop_pin, loop_insert, loop_mix },
};
