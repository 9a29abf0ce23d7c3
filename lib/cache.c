/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * See cache.h.  Creation and destruction, and the cache as a reclaimer of its
 * budget: it gives back the bytes wanted, or a share of what it holds.
 */
#include "cache.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>

#include "budget.h"
#include "cache_close.h"
#include "cache_leave.h"
#include "options.h"
#include "os.h"
#include "pin_sums.h"
#include "pool.h"
#include "rcu.h"
#include "section.h"

enum { SHARE = 16 };

/* What waits for a grace period is on its way already; half of what is wanted
 * will do, since who asks again asks for twice as much. */
static uint64_t give(struct reclaimer *r, uint64_t bytes)
{
	struct seg_cache *c = cache_of(r);
	uint64_t held = cache_weight(c);
	uint64_t share, given = 0;

	if (cache_is_foreign(c) || held <= c->floor_weight)
		return 0;
	share = (held - c->floor_weight) / SHARE;
	if (cache_deferred(c) < bytes / 2)
		given = cache_evict_to(c, c->floor_weight,
				       bytes > share ? bytes : share,
				       SEG_CAUSE_RECLAIMED, false);
	if (!given)
		reclaim_busy(r);
	return given;
}

static void report(struct reclaimer *r, struct seg_refusal *refusal,
		   struct pin_sums *pins)
{
	struct seg_cache *c = cache_of(r);

	if (cache_is_foreign(c))
		return;
	pin_sums_add(pins, &c->tags);
	refusal->cache_weight += cache_weight_exactly(c);
	refusal->pinned_weight += cache_pinned_exactly(c);
	refusal->cache_deferred_weight += cache_deferred(c);
}

static bool options_are_valid(const struct seg_cache_options *o)
{
	return o->max_weight && o->max_weight <= CACHE_WEIGHT_MOST &&
	       o->short_reads <= 1 && o->no_thread <= 1 &&
	       (o->listener || o->pages) &&
	       (!o->migrate_after || o->pages) &&
	       (!o->name || strlen(o->name) < CACHE_NAME_BYTES) &&
	       o->log_level <= SEG_LOG_SEGMENT;
}

static void set_options(struct seg_cache *c, const struct seg_cache_options *o)
{
	c->short_reads = o->short_reads;
	c->migrate_after = o->migrate_after;
	c->pages = o->pages;
	c->listener = o->listener;
	c->listener_ctx = o->listener_ctx;
	c->budget = o->budget;
	c->floor_weight = o->floor_weight;
	c->process = keeper_process();
	c->log.fn = o->log_level == SEG_LOG_OFF ? NULL : o->log;
	c->log.ctx = o->log_ctx;
	c->log.level = o->log_level ? o->log_level : SEG_LOG_REGION;
	strcpy(c->name, o->name ? o->name : "Cache");
	/* relaxed: not yet published */
	u64_store_relaxed(&c->max_weight, o->max_weight);
	/* relaxed: as above */
	u32_store_relaxed(&c->over, cache_over_always(c));
	/* relaxed, both: as above */
	u32_store_relaxed(&c->peeks, o->short_reads ? COUNTER_PLACED : 0);
	if (!o->migrate_after && sections_begin())
		u32_store_relaxed(&c->opens, CACHE_OPENS_LEFT + 1);
	cache_policy_init(&c->policy, o->max_weight);
	pin_tags_init(&c->tags);
	c->slots.work.run = cache_batch_arrived;
	c->reclaimer.give = give;
	c->reclaimer.report = report;
	c->reclaimer.drain = cache_drain;
	c->reclaimer.name = c->name;
	c->duty.run = cache_flush_duty;
	c->duty.no_thread = o->no_thread;
	c->published.kind = PUBLISHED_CACHE;
	c->published.bytes = sizeof(struct seg_cache_stats);
	c->published.fill = cache_publish;
	c->published.budget = o->budget ? &o->budget->published : NULL;
	publish_set_name(&c->published, c->name, NULL);
}

/* Its slots are cleared. */
static void free_cache(struct seg_cache *c)
{
	cache_policy_clear(&c->policy);
	cache_index_clear(&c->index);
	os_free(c);
}

static void join(struct seg_cache *c)
{
	if (c->budget)
		reclaim_join(&c->budget->reclaimers, &c->reclaimer);
	if (c->pages)
		u64_add_relaxed(&c->pages->caches, 1); /* relaxed: counter */
	publish_add(&c->published);
}

static void leave(struct seg_cache *c)
{
	publish_remove(&c->published);
	if (c->budget)
		reclaim_leave(&c->budget->reclaimers, &c->reclaimer);
	if (c->pages)
		u64_sub_relaxed(&c->pages->caches, 1); /* relaxed: counter */
}

int seg_cache_create(const struct seg_cache_options *options,
		     struct seg_cache **ret_cache)
{
	struct seg_cache_options o = { 0 };
	struct seg_cache *c;
	int ret;

	if (!ret_cache || !options_get(&o, sizeof(o), options, sizeof(o)) ||
	    !options_are_valid(&o))
		return -EINVAL;
	c = os_calloc(1, sizeof(*c));
	if (!c)
		return -ENOMEM;
	set_options(c, &o);
	ret = slots_init(&c->slots) &&
	      cache_index_init(&c->index, c->slots.groups) ?
	      keeper_join(&c->duty) : -ENOMEM;
	if (ret) {
		(void)slots_clear(&c->slots); /* the table, if at all */
		free_cache(c);
		return ret;
	}
	join(c);
	*ret_cache = c;
	return 0;
}

/* ---- the end ---- */

struct leak {
	struct seg_cache *cache;
	uint64_t tag;			/* that is summed up now ... */
	uint64_t next_tag;		/* ... and the one above; 0: none */
	uint64_t pins, weight, longest_ns, tagged;
};

static void add_leak(void *ctx, const struct seg_pin_info *info)
{
	struct leak *leak = ctx;

	if (info->tag > leak->tag &&
	    (!leak->next_tag || info->tag < leak->next_tag))
		leak->next_tag = info->tag;
	if (info->tag != leak->tag)
		return;
	leak->pins++;
	leak->weight += info->weight;
	if (info->held_ns > leak->longest_ns)
		leak->longest_ns = info->held_ns;
}

static void log_tag(struct leak *leak)
{
	struct seg_cache *c = leak->cache;

	if (leak->pins)
		log_event(&c->log, SEG_LOG_ERROR, "%s: tag %llu pins %llu "
			  "entries, %llu KB, the longest for %llu ms", c->name,
			  (unsigned long long)leak->tag,
			  (unsigned long long)leak->pins,
			  (unsigned long long)leak->weight / 1024,
			  (unsigned long long)leak->longest_ns / 1000000);
	leak->tagged += leak->pins;
	leak->pins = leak->weight = leak->longest_ns = 0;
}

/* One walk for each tag: no memory is needed, and leaks are few. */
static void log_pins(struct seg_cache *c, uint64_t pins)
{
	struct leak leak = { .cache = c };

	do {
		leak.tag = leak.next_tag;
		leak.next_tag = 0;
		pin_tags_each(&c->tags, add_leak, &leak);
		log_tag(&leak);
	} while (leak.next_tag);
	if (pins > leak.tagged)
		log_event(&c->log, SEG_LOG_ERROR, "%s: %llu pins without a tag",
			  c->name, (unsigned long long)(pins - leak.tagged));
}

static void count_entry(const struct cache_entry *e, uint64_t *entries,
			uint64_t *pins)
{
	uint64_t word = entry_look(e);

	if (word & ENTRY_LOADING)
		return;
	*entries += entry_pins(word) != 0;
	*pins += entry_pins(word);
}

/* Entries that have pins, in the index and hidden, but for loading ones. */
static uint64_t count_pinned(struct seg_cache *c, uint64_t *ret_pins)
{
	uint64_t entries = 0;
	struct cache_entry *e;

	*ret_pins = 0;
	for (struct cache_record *r = c->hidden; r; r = r->older)
		count_entry(record_entry(r), &entries, ret_pins);
	for (uint32_t b = 0; b < cache_index_buckets(&c->index); b++)
		for (e = cache_index_first(&c->index, b); e;
		     e = cache_index_next(&c->index, e))
			count_entry(e, &entries, ret_pins);
	return entries;
}

static bool is_busy(struct seg_cache *c)
{
	struct farewell f;
	uint64_t pinned, pins, entries, loading;
	bool busy;

	/* relaxed: by contract no other call is running, but for loaders */
	loading = u64_load_relaxed(&c->loading);
	cache_lock(c, &f);
	cache_close_all(c);
	pinned = cache_pinned(c);
	busy = pinned || loading;
	entries = busy ? count_pinned(c, &pins) : 0;
	cache_unlock(c, &f);
	if (!busy)
		return false;
	log_event(&c->log, SEG_LOG_ERROR,
		  "%s not destroyed: %llu entries pinned, %llu KB; %llu being "
		  "loaded", c->name, (unsigned long long)entries,
		  (unsigned long long)pinned / 1024,
		  (unsigned long long)loading);
	log_pins(c, pins);
	return true;
}

/* Waits until nothing of the cache's is with the keeper any more. */
static void settle_down(struct seg_cache *c)
{
	struct farewell f;
	bool busy;

	do {
		cache_hurry(c);
		keeper_flush();
		cache_lock(c, &f);
		busy = c->slots.sending || c->slots.retired;
		cache_unlock(c, &f);
	} while (busy);
}

int seg_cache_destroy(struct seg_cache *c)
{
	if (!c)
		return 0;
	if (rcu_inside())
		return -EDEADLK;
	if (is_busy(c))
		return -EBUSY;
	leave(c);
	cache_remove_all(c, SEG_CAUSE_DESTROYED);
	settle_down(c);
	if (!pin_tags_clear(&c->tags) || !slots_clear(&c->slots)) {
		join(c);
		return -EBUSY;
	}
	keeper_leave(&c->duty);
	free_cache(c);
	return 0;
}
