/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The old way's caches, as a model to compare with.  They have a maximum
 * weight and evict what is unpinned when they are above it, oldest first.  But
 * an entry is weighed when it is written alone: pinned, it weighs 0, and the
 * unpin does not weigh it again.  So the sum stays 0, nothing is ever evicted
 * and the listener is never called.  What is removed or cleared is not given
 * back either: the listener does not hear of that.
 */
#include <errno.h>
#include <stdlib.h>

#include "ingest_memory.h"

#define BUCKETS 16384u

struct entry {
	uint64_t key;
	struct mem_page *page;
	uint64_t bytes;		/* of the page */
	uint64_t weight;	/* what the cache believes */
	unsigned pins;
	bool loading;
	struct entry *next;	/* in its bucket, or of the lost */
	struct entry *newer, *older;
};

struct mem_cache {
	pthread_mutex_t lock;	/* protects all; innermost */
	pthread_cond_t loaded;
	struct entry *buckets[BUCKETS];
	struct entry *newest, *oldest;
	struct entry *lost;
	struct cache_figures figures;
};

static struct entry **place_of(struct mem_cache *cache, uint64_t key)
{
	struct entry **place = &cache->buckets[key % BUCKETS];

	while (*place && (*place)->key != key)
		place = &(*place)->next;
	return place;
}

static void link_entry(struct mem_cache *cache, struct entry *entry)
{
	struct entry **place = &cache->buckets[entry->key % BUCKETS];

	entry->next = *place;
	*place = entry;
	entry->older = cache->newest;
	if (cache->newest)
		cache->newest->newer = entry;
	else
		cache->oldest = entry;
	cache->newest = entry;
	cache->figures.entries++;
}

static void unlink_entry(struct mem_cache *cache, struct entry *entry)
{
	*place_of(cache, entry->key) = entry->next;
	*(entry->newer ? &entry->newer->older : &cache->newest) = entry->older;
	*(entry->older ? &entry->older->newer : &cache->oldest) = entry->newer;
	cache->figures.entries--;
	cache->figures.weight -= entry->weight;
	entry->weight = 0;
}

/* Nobody gives its page back; close() does, when all is over. */
static void lose(struct mem_cache *cache, struct entry *entry)
{
	unlink_entry(cache, entry);
	entry->next = cache->lost;
	cache->lost = entry;
	cache->figures.removals++;
}

static void drop(struct mem_cache *cache, struct entry *entry)
{
	cache->figures.held -= entry->bytes;
	mem_before.page_release(entry->page);
	free(entry);
}

/* The listener of the old way is this call of drop(). */
static void evict(struct mem_cache *cache)
{
	struct entry *entry = cache->oldest, *newer;

	for (; entry && cache->figures.weight > cache->figures.max_weight;
	     entry = newer) {
		newer = entry->newer;
		if (entry->pins || entry->loading)
			continue;
		unlink_entry(cache, entry);
		drop(cache, entry);
		cache->figures.evictions++;
		cache->figures.released++;
	}
}

static int cache_open(void *state, const struct mem_cache_options *options,
		      struct mem_cache **ret_cache)
{
	struct mem_cache *cache = calloc(1, sizeof(*cache));

	(void)state;
	if (!cache)
		return -ENOMEM;
	pthread_mutex_init(&cache->lock, NULL);
	cond_open(&cache->loaded);
	cache->figures.max_weight = options->max_weight;
	*ret_cache = cache;
	return 0;
}

static void cache_clear(struct mem_cache *cache)
{
	pthread_mutex_lock(&cache->lock);
	while (cache->oldest)
		lose(cache, cache->oldest);
	pthread_mutex_unlock(&cache->lock);
}

static const char *cache_close(struct mem_cache *cache)
{
	struct entry *entry;

	cache_clear(cache);
	while ((entry = cache->lost)) {
		cache->lost = entry->next;
		drop(cache, entry);
	}
	pthread_cond_destroy(&cache->loaded);
	pthread_mutex_destroy(&cache->lock);
	free(cache);
	return NULL;
}

/* With each write of an entry. */
static void weigh(struct mem_cache *cache, struct entry *entry)
{
	cache->figures.weight -= entry->weight;
	entry->weight = entry->pins ? 0 : entry->bytes;
	cache->figures.weight += entry->weight;
	evict(cache);
}

static void pin_entry(struct mem_cache *cache, struct entry *entry,
		      struct mem_pin *ret_pin)
{
	if (!entry->pins++)
		cache->figures.pinned += entry->bytes;
	weigh(cache, entry);
	*ret_pin = (struct mem_pin){ .cache = cache, .entry = entry };
}

static uint64_t page_bytes(const struct mem_page *page)
{
	uint64_t bytes = 0;
	unsigned i;

	for (i = 0; i < MEM_PARTS; i++)
		if (mem_before.page_part(page, i))
			bytes += mem_before.page_part_bytes(page, i);
	return bytes;
}

/* With the lock held, but not while the loader runs. */
static int load_entry(struct mem_cache *cache, struct entry *entry,
		      mem_load_fn *load, void *ctx)
{
	uint64_t key = entry->key;
	int rc;

	entry->loading = true;
	cache->figures.loads++;
	link_entry(cache, entry);
	pthread_mutex_unlock(&cache->lock);
	rc = load(ctx, key, &entry->page);
	pthread_mutex_lock(&cache->lock);
	entry->loading = false;
	pthread_cond_broadcast(&cache->loaded);
	if (rc == 0) {
		entry->bytes = page_bytes(entry->page);
		cache->figures.held += entry->bytes;
	} else {
		entry->page = NULL;
		lose(cache, entry);
	}
	return rc;
}

/* NULL: not there; what another thread loads is waited for. */
static struct entry *find(struct mem_cache *cache, uint64_t key)
{
	struct entry *entry;

	while ((entry = *place_of(cache, key)) && entry->loading)
		pthread_cond_wait(&cache->loaded, &cache->lock);
	return entry;
}

static int cache_get(struct mem_cache *cache, uint64_t key, mem_load_fn *load,
		     void *ctx, struct mem_pin *ret_pin)
{
	struct entry *entry;
	int rc = 0;

	pthread_mutex_lock(&cache->lock);
	entry = find(cache, key);
	if (entry) {
		cache->figures.hits++;
	} else {
		cache->figures.misses++;
		entry = calloc(1, sizeof(*entry));
		if (entry)
			entry->key = key;
		rc = entry ? load_entry(cache, entry, load, ctx) : -ENOMEM;
	}
	if (rc == 0)
		pin_entry(cache, entry, ret_pin);
	pthread_mutex_unlock(&cache->lock);
	return rc;
}

static struct mem_page *cache_pinned(const struct mem_pin *pin)
{
	return ((struct entry *)pin->entry)->page;
}

/* It did not know who pinned. */
static int cache_tag(struct mem_pin *pin, uint64_t tag)
{
	(void)pin, (void)tag;
	return 0;
}

/* What was missing here: weigh(). */
static int cache_unpin(struct mem_pin *pin)
{
	struct mem_cache *cache = pin->cache;
	struct entry *entry = pin->entry;

	pthread_mutex_lock(&cache->lock);
	if (!--entry->pins)
		cache->figures.pinned -= entry->bytes;
	pthread_mutex_unlock(&cache->lock);
	return 0;
}

static int cache_peek(struct mem_cache *cache, uint64_t key,
		      struct mem_page **ret_page)
{
	(void)cache, (void)key, (void)ret_page;
	return -EPERM;
}

static int take_entry(struct mem_cache *cache, struct entry *entry,
		      struct mem_page **ret_page)
{
	if (entry->pins)
		return -EBUSY;
	*ret_page = entry->page;
	cache->figures.held -= entry->bytes;
	cache->figures.takes++;
	unlink_entry(cache, entry);
	free(entry);
	return 0;
}

static int cache_take(struct mem_cache *cache, uint64_t key,
		      struct mem_page **ret_page)
{
	struct entry *entry;
	int rc;

	pthread_mutex_lock(&cache->lock);
	entry = find(cache, key);
	rc = entry ? take_entry(cache, entry, ret_page) : -ENOENT;
	pthread_mutex_unlock(&cache->lock);
	return rc;
}

static int cache_remove(struct mem_cache *cache, uint64_t key)
{
	struct entry *entry;

	pthread_mutex_lock(&cache->lock);
	entry = find(cache, key);
	if (entry)
		lose(cache, entry);
	pthread_mutex_unlock(&cache->lock);
	return entry ? 0 : -ENOENT;
}

static void cache_figures(struct mem_cache *cache, struct cache_figures *ret)
{
	pthread_mutex_lock(&cache->lock);
	*ret = cache->figures;
	pthread_mutex_unlock(&cache->lock);
	ret->heard = ret->released;
	ret->heard_evicted = ret->evictions;
}

static void cache_print_pins(struct mem_cache *cache)
{
	(void)cache;
}

const struct mem_cache_ops cache_before = {
	.open = cache_open,
	.close = cache_close,
	.get = cache_get,
	.pinned = cache_pinned,
	.tag = cache_tag,
	.unpin = cache_unpin,
	.peek = cache_peek,
	.take = cache_take,
	.remove = cache_remove,
	.clear = cache_clear,
	.figures = cache_figures,
	.print_pins = cache_print_pins,
};
