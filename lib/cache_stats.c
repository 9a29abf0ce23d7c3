/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What a cache says of itself. */
#include <errno.h>

#include "cache_close.h"
#include "cache_leave.h"
#include "options.h"
#include "os.h"
#include "pin_sums.h"
#include "rcu.h"

static uint64_t count_of(struct seg_cache *c, int what)
{
	return u64_load_relaxed(&c->count[what]); /* relaxed: counter */
}

static void add_hits(struct seg_cache *c, struct seg_cache_stats *s)
{
	for (unsigned i = 0; i < COUNTER_SLOTS; i++) {
		/* relaxed, both: counters */
		s->hits_total += u64_load_relaxed(&c->slot[i].hits);
		s->misses_total += u64_load_relaxed(&c->slot[i].misses);
	}
}

static void add_counts(struct seg_cache *c, struct seg_cache_stats *s)
{
	s->inserts_total = count_of(c, COUNT_INSERTS);
	s->loads_total = count_of(c, COUNT_LOADS);
	s->load_failures_total = count_of(c, COUNT_LOAD_FAILURES);
	s->load_waits_total = count_of(c, COUNT_LOAD_WAITS);
	s->evictions_total = count_of(c, SEG_CAUSE_EVICTED);
	s->reclaims_total = count_of(c, SEG_CAUSE_RECLAIMED);
	s->shrinks_total = count_of(c, SEG_CAUSE_SHRUNK);
	s->replacements_total = count_of(c, SEG_CAUSE_REPLACED);
	s->removals_total = count_of(c, SEG_CAUSE_REMOVED) +
			    count_of(c, SEG_CAUSE_CLEARED) +
			    count_of(c, SEG_CAUSE_DESTROYED);
	s->takes_total = count_of(c, COUNT_TAKES);
	s->released_total = count_of(c, COUNT_RELEASED);
	s->misuses_total = count_of(c, COUNT_MISUSES);
	s->migrations_total = count_of(c, COUNT_MIGRATIONS);
	s->migrated_bytes_total = count_of(c, COUNT_MIGRATED_BYTES);
	s->migrations_refused_total = count_of(c, COUNT_MIGRATIONS_REFUSED);
}

int seg_cache_stats(struct seg_cache *c, struct seg_cache_stats *ret_stats)
{
	struct seg_cache_stats s = { .size = sizeof(s) };
	uint64_t left;

	if (!c || !result_is_valid(ret_stats))
		return -EINVAL;
	add_hits(c, &s);
	add_counts(c, &s);
	left = s.evictions_total + s.reclaims_total + s.shrinks_total +
	       s.replacements_total + s.removals_total + s.takes_total;
	s.entries = s.inserts_total > left ? s.inserts_total - left : 0;
	s.deferred_weight = cache_deferred(c);
	s.weight = cache_weight_exactly(c);
	s.pinned_weight = cache_pinned_exactly(c);
	/* relaxed, all: sums */
	s.max_weight = u64_load_relaxed(&c->max_weight);
	s.metadata_bytes = sizeof(*c) + cache_index_bytes(&c->index) +
			   slots_bytes(&c->slots) +
			   u64_load_relaxed(&c->policy_bytes) +
			   pin_tags_bytes(&c->tags);
	result_put(ret_stats, &s, sizeof(s));
	return 0;
}

/* Not the parent's after a fork. */
bool cache_publish(struct publish_item *item, void *to)
{
	struct seg_cache *c = (void *)((char *)item -
				       offsetof(struct seg_cache, published));
	struct seg_cache_stats *stats = to;

	stats->size = sizeof(*stats);
	return !cache_is_foreign(c) && seg_cache_stats(c, stats) == 0;
}

int seg_cache_pins(struct seg_cache *c, struct seg_pin_report *ret_report)
{
	struct seg_pin_report report = { .size = sizeof(report) };
	struct pin_sums sums = { .longest = report.longest,
				 .biggest = report.biggest };

	if (!c || !result_is_valid(ret_report))
		return -EINVAL;
	pin_sums_add(&sums, &c->tags);
	pin_sums_heaviest(&sums, report.tags);
	report.tagged = sums.tagged;
	report.pinned_weight = cache_pinned_exactly(c);
	result_put(ret_report, &report, sizeof(report));
	return 0;
}

/* ---- walks ---- */

static int visit(struct cache_entry *e, seg_cache_each_fn *fn, void *ctx)
{
	uint64_t word = entry_look(e);
	struct seg_cache_entry_info info = { .size = sizeof(info) };

	if (entry_state(word) != ENTRY_LIVE || (word & ENTRY_LOADING))
		return 0;
	/* acquire, all <- entry_fill(): the word has changed (E5) */
	info.key = u64_load_acquire(&e->key);
	info.value = ptr_load_acquire(&e->value);
	info.weight = entry_weight(e);
	/* relaxed: a hint */
	info.mark = u16_load_relaxed(&e->mark);
	info.pins = entry_pins(word);
	if (word & ENTRY_OPEN)
		info.pins += cache_slot_pins(e);
	return entry_lives_on(word, entry_look(e)) ? fn(ctx, &info) : 0;
}

/* Who strays into another chain has lost its own. */
static bool is_in_bucket(struct seg_cache *c, const struct cache_entry *e,
			 uint32_t bucket)
{
	/* acquire <- split(), entry_fill() */
	uint64_t shape = u64_load_acquire(&c->index.shape);

	return index_bucket(shape, u64_load_acquire(&e->key)) == bucket;
}

static int visit_bucket(struct seg_cache *c, uint32_t bucket,
			seg_cache_each_fn *fn, void *ctx)
{
	struct cache_entry *e = cache_index_first(&c->index, bucket);
	int ret = 0;

	for (; e && !ret && is_in_bucket(c, e, bucket);
	     e = cache_index_next(&c->index, e))
		ret = visit(e, fn, ctx);
	return ret;
}

/* A bucket of the walk's beginning: itself, and what was split off since. */
static int visit_descendants(struct seg_cache *c, uint64_t shape,
			     uint32_t bucket, seg_cache_each_fn *fn, void *ctx)
{
	uint32_t step = index_mask(shape) / 2 + 1;
	uint32_t now = cache_index_buckets(&c->index);
	int ret = 0;

	for (uint32_t b = bucket; b < now && !ret; b += step)
		if (index_fold(shape, b) == bucket)
			ret = visit_bucket(c, b, fn, ctx);
	return ret;
}

int seg_cache_each(struct seg_cache *c, seg_cache_each_fn *fn, void *ctx)
{
	uint64_t shape;
	int ret = 0;

	if (!c || !fn)
		return -EINVAL;
	/* acquire <- split() */
	shape = u64_load_acquire(&c->index.shape);
	for (uint32_t b = 0; b < index_buckets(shape) && !ret; b++) {
		rcu_enter();
		ret = visit_descendants(c, shape, b, fn, ctx);
		rcu_leave();
	}
	return ret;
}

struct sums {
	uint64_t entries, weight, pinned, loading, queued;
};

static void add_entry(struct sums *s, const struct cache_entry *e)
{
	uint64_t word = entry_look(e);

	s->entries++;
	s->weight += entry_weight(e);
	s->pinned += entry_pins(word) ? entry_weight(e) : 0;
	s->loading += (word & ENTRY_LOADING) != 0;
	s->queued += entry_record(e)->queue != 0;
}

static struct sums sum_up(struct seg_cache *c)
{
	struct sums s = { .entries = 0 };

	struct cache_entry *e;

	for (uint32_t b = 0; b < cache_index_buckets(&c->index); b++)
		for (e = cache_index_first(&c->index, b); e;
		     e = cache_index_next(&c->index, e))
			add_entry(&s, e);
	return s;
}

static struct sums sum_up_hidden(struct seg_cache *c)
{
	struct sums s = { .entries = 0 };

	for (struct cache_record *r = c->hidden; r; r = r->older)
		add_entry(&s, record_entry(r));
	return s;
}

/* Nobody is in a call, so nothing is on the returned list, and what is neither
 * loading nor pinned is in a queue of the policy. */
static bool sums_are_valid(struct seg_cache *c)
{
	struct sums in = sum_up(c);
	struct sums hidden = sum_up_hidden(c);
	struct seg_cache_stats stats = { .size = sizeof(stats) };
	/* relaxed: nobody else is there */
	uint64_t max = u64_load_relaxed(&c->max_weight);

	seg_cache_stats(c, &stats);
	return cache_resident(c) == in.weight + hidden.weight &&
	       cache_pinned(c) == in.pinned + hidden.pinned &&
	       hidden.pinned == hidden.weight &&
	       in.entries - in.loading == stats.entries &&
	       in.weight - in.pinned <= max &&
	       (in.pinned || in.queued == in.entries - in.loading);
}

bool seg_cache_is_valid(struct seg_cache *c)
{
	struct farewell f;
	uint64_t max;
	bool valid;

	if (!c)
		return false;
	cache_lock(c, &f);
	cache_close_all(c);
	max = u64_load_relaxed(&c->max_weight); /* relaxed: under the gate */
	/* What an unpin may just have left to the library's own thread. */
	cache_make_room(c, 0, max, SEG_CAUSE_EVICTED, &f);
	valid = cache_index_is_valid(&c->index) &&
		cache_policy_is_valid(&c->policy) && sums_are_valid(c);
	cache_unlock(c, &f);
	return valid;
}
