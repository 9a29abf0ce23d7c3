/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The cache under all operations at once: few keys, few bytes, many threads.
 *
 * A value carries its own papers: who owns it, its key, how many pins it has,
 * and a body that is filled before it is put and scribbled over when it leaves.
 * Whoever has a pin checks all of that, and so does the listener.  After each
 * section of some hundred operations all threads stop, with their pins held,
 * and the sums of the cache are compared with those of the papers.
 *
 *   all       everything
 *   loads     nothing is removed: at most one loader of a key at a time
 *   unpinned  nothing is pinned: the weight is never above the maximum
 *
 *   cache [all | loads | unpinned]	each without and with short_reads
 */
#define _GNU_SOURCE
#include <errno.h>
#include <inttypes.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cache.h"
#include "cache_game.h"

enum { SECTION_OPS = 200, SETTLE_S = 60 };

/* ------------------------------------------------------------------ rest */

/*
 * All threads stand still, between two calls.  The library's own thread may
 * still be at work: what it has not yet evicted or given to the listener is on
 * its way.
 */
static struct seg_cache_stats settled(struct game *g)
{
	uint64_t until_ns = stress_now_ns() + SETTLE_S * UINT64_C(1000000000);
	struct seg_cache_stats s;
	uint64_t weight;

	for (;;) {
		s = stats_of(g);
		weight = stress_value(&g->tally.weight);
		if (s.weight + s.pinned_weight == weight &&
		    s.weight <= s.max_weight)
			return s;
		stress_check(stress_now_ns() < until_ns,
			     "at rest: weight %" PRIu64 " of %" PRIu64
			     " + %" PRIu64 " pinned, the values weigh %" PRIu64,
			     s.weight, s.max_weight, s.pinned_weight, weight);
		sched_yield();
	}
}

/* Entries that were chosen to leave, but then there was a pin. */
static unsigned count_parked(struct cache_index *ix)
{
	unsigned parked = 0;

	for (uint32_t b = 0; b < cache_index_buckets(ix); b++)
		for (struct cache_entry *e = cache_index_first(ix, b); e;
		     e = cache_index_next(ix, e))
			parked += (entry_look(e) & ENTRY_PARKED) != 0;
	return parked;
}

static void check_rest(struct game *g)
{
	struct seg_cache_stats s = settled(g);
	uint64_t pinned = stress_value(&g->tally.pinned);

	stress_check(s.pinned_weight == pinned, "at rest: %" PRIu64
		     " pinned instead of %" PRIu64, s.pinned_weight, pinned);
	stress_check(seg_cache_is_valid(g->cache), "the cache is not valid");
	did(&g->tally.sections);
	stress_add(&g->tally.parked, count_parked(&g->cache->index));
	if (pinned)
		did(&g->tally.pinned_rests);
}

/* Of half of the sections the last that is done is to unpin, by all threads:
 * whoever finds the lock taken must not be forgotten. */
static void play_section(struct worker *w)
{
	struct game *g = w->game;
	unsigned ops = stress_below(&w->random, SECTION_OPS);

	for (unsigned i = 0; i < ops; i++)
		g->mix->ops[stress_below(&w->random, g->mix->count)](w);
	pthread_barrier_wait(&g->barrier);
	while (g->drops && w->holds)
		drop_one(w);
}

static void *work(void *arg)
{
	struct worker *w = arg;
	struct game *g = w->game;
	bool ends = false;

	stress_self = w;
	while (!ends) {
		play_section(w);
		pthread_barrier_wait(&g->barrier);
		if (!w->index) {
			check_rest(g);
			g->ends = stress_over();
			g->drops = !g->drops;
		}
		pthread_barrier_wait(&g->barrier);
		ends = g->ends;
	}
	while (w->holds)
		drop_one(w);
	return NULL;
}

/* ------------------------------------------------------------------- end */

static void same(const char *what, uint64_t is, uint64_t should)
{
	stress_check(is == should, "%s: %" PRIu64 " counted, %" PRIu64
		     " happened", what, is, should);
}

static void check_counts(struct game *g, const struct seg_cache_stats *s)
{
	struct tally *t = &g->tally;
	stress_count *left = t->left;

	same("inserts", s->inserts_total, stress_value(&t->puts) +
	     stress_value(&t->replaces) + stress_value(&t->loaded));
	same("takes", s->takes_total, stress_value(&t->taken));
	same("evictions", s->evictions_total,
	     stress_value(&left[SEG_CAUSE_EVICTED]));
	same("shrinks", s->shrinks_total,
	     stress_value(&left[SEG_CAUSE_SHRUNK]));
	same("replacements", s->replacements_total,
	     stress_value(&left[SEG_CAUSE_REPLACED]));
	same("removals", s->removals_total,
	     stress_value(&left[SEG_CAUSE_REMOVED]) +
	     stress_value(&left[SEG_CAUSE_CLEARED]));
	same("loads", s->loads_total, stress_value(&t->loaders));
	same("failures", s->load_failures_total, stress_value(&t->failures));
	same("look-ups", s->hits_total + s->misses_total,
	     stress_value(&t->gets) + stress_value(&t->peeks) +
	     stress_value(&t->asks));
	same("misuses", s->misuses_total, 0);
}

static void empty_slots(struct game *g)
{
	for (int i = 0; i < SLOTS; i++) {
		struct held *held = g->slot[i];

		if (!held)
			continue;
		let_go(g, held);
		free(held);
		g->slot[i] = NULL;
	}
}

/* Without what the workers left in the slots nothing is pinned. */
static void check_end(struct game *g)
{
	struct seg_cache_stats s;

	empty_slots(g);
	s = settled(g);
	same("pinned", s.pinned_weight, 0);
	stress_check(!seg_cache_clear(g->cache), "clear");
	s = settled(g);
	same("entries after clear", s.entries, 0);
	same("weight after clear", s.weight + s.pinned_weight, 0);
	stress_check(seg_cache_is_valid(g->cache), "not valid after clear");
	check_counts(g, &s);
}

static void check_destroy(struct game *g, struct worker *w)
{
	struct tally *t = &g->tally;
	uint64_t left = 0;
	int ret;

	for (int i = 0; i < 8; i++)
		replace_any(w);
	if (stress_value(&t->pinned)) {
		ret = seg_cache_destroy(g->cache);
		stress_check(ret == -EBUSY, "destroyed with pins: %d", ret);
	}
	while (w->holds)
		drop_one(w);
	empty_slots(g);
	ret = seg_cache_destroy(g->cache);
	stress_check(!ret, "seg_cache_destroy: %s", strerror(-ret));
	for (int i = 0; i <= SEG_CAUSE_DESTROYED; i++)
		left += stress_value(&t->left[i]);
	same("values that left", left + stress_value(&t->taken) +
	     stress_value(&t->refused), stress_value(&t->made));
	same("weight at the end", stress_value(&t->weight), 0);
}

/* ----------------------------------------------------------------- games */

static void print(const char *what, stress_count *count)
{
	printf(" %s %" PRIu64, what, stress_value(count));
}

static void report(struct game *g, uint64_t load_waits)
{
	struct tally *t = &g->tally;

	printf("%s%s, %u threads:", g->mix->name,
	       g->short_reads ? ", short reads" : "", g->threads);
	print("rests", &t->sections);
	print("with pins", &t->pinned_rests);
	print("parked at rest", &t->parked);
	print("\n  values", &t->made);
	print("taken", &t->taken);
	print("lost puts", &t->lost);
	print("busy takes", &t->busy);
	print("handed pins", &t->handed);
	print("\n  loads", &t->loaders);
	print("failed", &t->failures);
	print("side by side", &t->side_by_side);
	printf(" waits %" PRIu64, load_waits);
	print("given up", &t->waits);
	print("own", &t->deadlocks);
	print("\n  left evicted", &t->left[SEG_CAUSE_EVICTED]);
	print("by an unpin", &t->unpin_evictions);
	print("shrunk", &t->left[SEG_CAUSE_SHRUNK]);
	print("replaced", &t->left[SEG_CAUSE_REPLACED]);
	print("removed", &t->left[SEG_CAUSE_REMOVED]);
	print("cleared", &t->left[SEG_CAUSE_CLEARED]);
	print("at their last unpin", &t->hidden_deaths);
	printf("\n  pins at once");
	for (int i = 0; i <= PINS_SHOWN; i++)
		printf(" %d: %" PRIu64, i + 1, stress_value(&t->pins[i]));
	printf("\n");
}

static struct seg_cache *make_cache(struct game *g)
{
	struct seg_cache_options o = {
		.size = sizeof(o),
		.max_weight = WEIGHT_LEAST_MAX,
		.listener = on_leave,
		.listener_ctx = g,
		.short_reads = g->short_reads,
	};
	struct seg_cache *cache;
	int ret = seg_cache_create(&o, &cache);

	stress_check(!ret, "seg_cache_create: %s", strerror(-ret));
	return cache;
}

static void play(const struct mix *mix, bool short_reads, unsigned number,
		 double seconds)
{
	static struct game game;
	struct worker workers[WORKERS_MOST] = { 0 };
	struct game *g = &game;
	unsigned n = stress_scale(WORKERS_MOST, 4);

	game = (struct game){ .mix = mix, .short_reads = short_reads,
			      .threads = n };
	g->cache = make_cache(g);
	pthread_barrier_init(&g->barrier, NULL, n);
	stress_again();
	for (unsigned i = 0; i < n; i++) {
		workers[i] = (struct worker){ .game = g, .index = i };
		workers[i].random = stress_random_of(number * 100 + i);
		workers[i].thread = stress_start(work, &workers[i]);
	}
	stress_run_for(seconds);
	for (unsigned i = 0; i < n; i++)
		stress_join(workers[i].thread);
	stress_self = &workers[0];
	check_end(g);
	report(g, stats_of(g).load_waits_total);
	check_destroy(g, &workers[0]);
	stress_self = NULL;
	pthread_barrier_destroy(&g->barrier);
}

int main(int argc, char **argv)
{
	const unsigned count = stress_mix_count;
	const char *only = argc > 1 ? argv[1] : NULL;
	unsigned played = 0;

	stress_begin("stress/cache");
	for (unsigned i = 0; i < 2 * count; i++) {
		const struct mix *mix = &stress_mixes[i / 2];

		if (only && strcmp(mix->name, only))
			continue;
		play(mix, i % 2, i, stress_seconds() / (only ? 2 : 2 * count));
		played++;
	}
	if (!played) {
		fprintf(stderr, "usage: %s [all | loads | unpinned]\n",
			argv[0]);
		return 2;
	}
	return stress_end();
}
