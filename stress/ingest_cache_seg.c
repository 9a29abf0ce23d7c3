/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Caches of pages from libseg. */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

#include "ingest_memory.h"
#include "ingest_memory_seg.h"

struct mem_cache {
	struct seg_cache *cache;
	const char *name;
	_Atomic uint64_t heard[SEG_CAUSE_DESTROYED + 1];
};

/* Only told: the cache releases its pages itself. */
static void listen(void *ctx, uint64_t key, void *value, uint64_t weight,
		   enum seg_cause cause)
{
	struct mem_cache *cache = ctx;

	(void)key, (void)value, (void)weight;
	/* relaxed: a counter */
	atomic_fetch_add_explicit(&cache->heard[cause], 1,
				  memory_order_relaxed);
}

static int cache_open(void *arg, const struct mem_cache_options *options,
		      struct mem_cache **ret_cache)
{
	struct mem_cache *cache = calloc(1, sizeof(*cache));
	struct seg_state *state = arg;
	struct seg_cache_options o = {
		.size = sizeof(o),
		.max_weight = options->max_weight,
		.budget = state->budget,
		.pages = state->pool,
		.listener = listen,
		.listener_ctx = cache,
		.name = options->name,
		.log = options->log ? write_event : NULL,
		.log_ctx = options->log,
		.log_level = SEG_LOG_EVICT,
		.short_reads = options->short_reads,
	};
	int rc = cache ? seg_cache_create(&o, &cache->cache) : -ENOMEM;

	if (rc) {
		free(cache);
		return rc;
	}
	cache->name = options->name;
	*ret_cache = cache;
	return 0;
}

static const char *cache_close(struct mem_cache *cache)
{
	const char *wrong = NULL;

	if (!seg_cache_is_valid(cache->cache))
		wrong = "seg_cache_is_valid() found damage";
	if (seg_cache_destroy(cache->cache))
		return "seg_cache_destroy() refused";
	free(cache);
	return wrong;
}

struct load_call {
	mem_load_fn *load;
	void *ctx;
};

/* A seg_cache_load_fn; the weight stays 0: the page's own. */
static int load_value(void *ctx, uint64_t key, void **ret_value,
		      uint64_t *ret_weight)
{
	struct load_call *call = ctx;
	struct mem_page *page;
	int rc = call->load(call->ctx, key, &page);

	if (rc == 0) {
		*ret_value = page;
		*ret_weight = 0;
	}
	return rc;
}

static int cache_get(struct mem_cache *cache, uint64_t key, mem_load_fn *load,
		     void *ctx, struct mem_pin *ret_pin)
{
	struct load_call call = { load, ctx };

	ret_pin->cache = cache;
	return seg_cache_get_or_load(cache->cache, key, load_value, &call, 0,
				     &ret_pin->seg);
}

static struct mem_page *cache_pinned(const struct mem_pin *pin)
{
	return seg_pin_value(&pin->seg);
}

static int cache_tag(struct mem_pin *pin, uint64_t tag)
{
	return seg_pin_tag(&pin->seg, tag);
}

static int cache_unpin(struct mem_pin *pin)
{
	return seg_unpin(&pin->seg);
}

static int cache_peek(struct mem_cache *cache, uint64_t key,
		      struct mem_page **ret_page)
{
	void *value;
	int rc = seg_cache_peek(cache->cache, key, &value);

	if (rc == 0)
		*ret_page = value;
	return rc;
}

static int cache_take(struct mem_cache *cache, uint64_t key,
		      struct mem_page **ret_page)
{
	void *value;
	int rc = seg_cache_take(cache->cache, key, &value);

	if (rc == 0)
		*ret_page = value;
	return rc;
}

static int cache_remove(struct mem_cache *cache, uint64_t key)
{
	return seg_cache_remove(cache->cache, key, NULL);
}

static void cache_clear(struct mem_cache *cache)
{
	seg_cache_clear(cache->cache);
}

static uint64_t heard(struct mem_cache *cache, enum seg_cause cause)
{
	/* relaxed: a counter, exact when no other thread is in a call */
	return atomic_load_explicit(&cache->heard[cause],
				    memory_order_relaxed);
}

static void cache_figures(struct mem_cache *cache, struct cache_figures *ret)
{
	struct seg_cache_stats s = { .size = sizeof(s) };
	int cause;

	*ret = (struct cache_figures){ 0 };
	if (seg_cache_stats(cache->cache, &s))
		return;
	*ret = (struct cache_figures){
		.max_weight = s.max_weight,
		.weight = s.weight,
		.pinned = s.pinned_weight,
		.deferred = s.deferred_weight,
		.held = s.weight + s.pinned_weight + s.deferred_weight,
		.entries = s.entries,
		.hits = s.hits_total,
		.misses = s.misses_total,
		.loads = s.loads_total,
		.evictions = s.evictions_total,
		.reclaims = s.reclaims_total,
		.removals = s.removals_total,
		.takes = s.takes_total,
		.misuses = s.misuses_total,
		.released = s.released_total,
		.heard_evicted = heard(cache, SEG_CAUSE_EVICTED) +
				 heard(cache, SEG_CAUSE_RECLAIMED),
	};
	for (cause = 1; cause <= SEG_CAUSE_DESTROYED; cause++)
		ret->heard += heard(cache, cause);
}

static void cache_print_pins(struct mem_cache *cache)
{
	struct seg_pin_report r = { .size = sizeof(r) };
	unsigned i;

	if (seg_cache_pins(cache->cache, &r))
		return;
	printf("  %s: %" PRIu64 " bytes are pinned, %" PRIu64 " pins have "
	       "tags\n", cache->name, r.pinned_weight, r.tagged);
	for (i = 0; i < SEG_PINS_MOST && i < r.tagged; i++) {
		print_pin("long", &r.longest[i]);
		print_pin("big", &r.biggest[i]);
	}
}

const struct mem_cache_ops cache_seg = {
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
