/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Pins in slots against all that closes entries: few hot keys, which are open
 * most of the time, pinned again and again by all threads, who look at the
 * value at once, a while later, and give the pin back, some of them after it
 * was handed to another thread; while entries are evicted, put, replaced,
 * removed, taken, cleared and summed up in a cache that holds few of them.
 *
 * A value is a plain figure, which the listener overwrites before it frees it:
 * who gets a value that leaves too early reads the figure then, or
 * ThreadSanitizer sees the two meet.  A signal stops threads at any instruction
 * while the others go on.  After each section all threads rest, half of the
 * times with pins held, and the sums are compared with the pins.
 *
 * It must meet pins that stand in slots, and pins that were moved from there
 * while they were held, or nothing was tried.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cache.h"
#include "pin_slots.h"
#include "section.h"
#include "stress.h"

enum {
	KEYS = 8,		/* the lower ones are hotter */
	WORKERS_MOST = 6,
	HELD = 12,		/* pins of a thread */
	HANDED = 4,		/* pins on their way to any thread */
	VALUE_WEIGHT = 10,	/* at least */
	MAX_WEIGHT = 50,
	SECTION_TURNS = 20000,
	SHORT_SECTION_TURNS = 2000,
	CHANGE_EVERY = 40,	/* turns: entries have to open in between */
	STOP_EVERY_NS = 20000,	/* and what the kernel adds to that */
	LONG_STOPS = 8,		/* one in so many is long: a millisecond */
	SETTLE_S = 60,
};

#define FIGURE UINT64_C(0x600d600d600d600d)

struct value {
	uint64_t figure;
	uint64_t key, serial, weight;
};

struct held {
	struct seg_pin pin;
	struct value *value;
	uint64_t key, serial;
};

/* Each thread's own, and added up while nobody runs. */
struct tally {
	uint64_t gets, hits, again, in_slots, moved, handed, tagged;
	uint64_t changes, visitors;
};

struct game;

struct worker {
	struct game *game;
	unsigned holds;
	struct stress_random random;
	struct held held[HELD];
	struct tally tally;
	struct seg_pin last;	/* given back */
	uint64_t last_key;
	pthread_t thread;
};

struct game {
	struct seg_cache *cache;
	bool short_reads, ends, drops;
	unsigned threads;
	pthread_barrier_t barrier;
	stress_count weight, serials, left, rests, open_at_rest, pinned_rests;
	_Atomic(struct held *) handed[HANDED];
	struct worker workers[WORKERS_MOST];
};

/* ---------------------------------------------------------------- values */

static struct value *make_value(struct worker *w, uint64_t key)
{
	struct value *v = malloc(sizeof(*v));

	stress_check(v, "no memory");
	v->figure = FIGURE;
	v->key = key;
	v->serial = stress_add(&w->game->serials, 1);
	v->weight = VALUE_WEIGHT + stress_below(&w->random, VALUE_WEIGHT);
	return v;
}

static void end_value(struct value *v)
{
	stress_check(v->figure == FIGURE, "a value left twice");
	v->figure = ~FIGURE;
	v->serial = 0;
	free(v);
}

static void on_leave(void *ctx, uint64_t key, void *value, uint64_t weight,
		     enum seg_cause cause)
{
	struct game *g = ctx;
	struct value *v = value;

	(void)cause;
	stress_check(v->key == key && v->weight == weight,
		     "key %" PRIu64 " left as %" PRIu64, v->key, key);
	stress_add(&g->weight, -weight);
	stress_add(&g->left, 1);
	end_value(v);
}

static void check(const struct held *h)
{
	stress_check(h->value->figure == FIGURE && h->value->key == h->key &&
		     h->value->serial == h->serial,
		     "key %" PRIu64 ": what is pinned has left", h->key);
}

/* ------------------------------------------------------------------ pins */

/* As far as one look can tell. */
static bool was_moved(const struct seg_pin *pin)
{
	uint32_t slot = cache_pin_slot(pin);

	/* relaxed: only counted */
	return slot && (u64_load_relaxed(&pin_slot(slot)->use) & PIN_MOVED);
}

static void let_go(struct worker *w, struct held *h)
{
	int ret;

	check(h);
	w->tally.moved += was_moved(&h->pin);
	w->last = h->pin;
	w->last_key = h->key;
	ret = seg_unpin(&h->pin);
	stress_check(!ret, "seg_unpin: %s", strerror(-ret));
}

static void drop_any(struct worker *w)
{
	unsigned i = stress_below(&w->random, w->holds);

	let_go(w, &w->held[i]);
	w->held[i] = w->held[--w->holds];
}

/* Whoever comes next there gives it back. */
static void hand_over(struct worker *w, const struct held *h)
{
	struct held *copy = malloc(sizeof(*copy));
	unsigned to = stress_below(&w->random, HANDED);

	stress_check(copy, "no memory");
	*copy = *h;
	copy = atomic_exchange_explicit(&w->game->handed[to], copy,
					memory_order_acq_rel);
	w->tally.handed++;
	if (copy)
		let_go(w, copy);
	free(copy);
}

/* What is early would leave in the meantime. */
static void dwell(struct worker *w, const struct held *h)
{
	unsigned looks = 0;

	switch (stress_below(&w->random, 64)) {
	case 0:
		sched_yield();
		break;
	case 1: case 2: case 3: case 4: case 5:
		looks = 300;
		break;
	default:
		looks = stress_below(&w->random, 16);
	}
	while (looks--)
		check(h);
}

static void use(struct worker *w, struct seg_pin pin, uint64_t key)
{
	struct value *v = seg_pin_value(&pin);
	struct held h = { pin, v, key, v->serial };
	int ret;

	w->tally.hits++;
	w->tally.in_slots += cache_pin_slot(&pin) != 0;
	check(&h);
	dwell(w, &h);
	switch (stress_below(&w->random, 32)) {
	case 0:
		hand_over(w, &h);
		return;
	case 1:
		w->tally.tagged++;
		ret = seg_pin_tag(&h.pin, 1);
		stress_check(!ret, "seg_pin_tag: %s", strerror(-ret));
		break;
	case 2: case 3: case 4:
		if (w->holds == HELD)
			drop_any(w);
		w->held[w->holds++] = h;
		return;
	}
	let_go(w, &h);
}

static uint64_t any_key(struct worker *w)
{
	return stress_below(&w->random, 1 + stress_below(&w->random, KEYS));
}

static void get(struct worker *w)
{
	uint64_t key = any_key(w);
	struct seg_pin pin;
	int ret = seg_cache_get(w->game->cache, key, &pin);

	w->tally.gets++;
	stress_check(!ret || ret == -ENOENT, "get: %s", strerror(-ret));
	if (!ret)
		use(w, pin, key);
}

/* What is pinned again by what was given back: the same value. */
static void pin_again(struct worker *w)
{
	struct seg_pin pin;
	int ret;

	if (!w->last.entry)
		return;
	ret = seg_pin_again(&w->last, &pin);
	stress_check(!ret || ret == -ENOENT, "again: %s", strerror(-ret));
	if (ret)
		return;
	w->tally.again++;
	use(w, pin, w->last_key);
}

/* --------------------------------------------------------------- changes */

static void back(struct worker *w, struct value *v)
{
	stress_add(&w->game->weight, -v->weight);
	stress_add(&w->game->left, 1);
	end_value(v);
}

static void put(struct worker *w, bool replaces)
{
	struct seg_cache *c = w->game->cache;
	uint64_t key = any_key(w);
	struct value *v = make_value(w, key);
	bool pins = !stress_below(&w->random, 2);
	struct seg_pin pin;
	int ret;

	stress_add(&w->game->weight, v->weight);
	ret = replaces ? seg_cache_replace(c, key, v, v->weight,
					   pins ? &pin : NULL) :
			 seg_cache_put(c, key, v, v->weight,
				       pins ? &pin : NULL);
	stress_check(!ret || (ret == -EEXIST && !replaces), "put: %s",
		     strerror(-ret));
	if (ret)
		back(w, v);
	else if (pins)
		use(w, pin, key);
}

static void take(struct worker *w)
{
	uint64_t key = any_key(w);
	void *value;
	int ret = seg_cache_take(w->game->cache, key, &value);

	stress_check(!ret || ret == -ENOENT || ret == -EBUSY, "take: %s",
		     strerror(-ret));
	if (!ret)
		back(w, value);
}

static struct seg_cache_stats stats_of(struct game *g)
{
	struct seg_cache_stats s = { .size = sizeof(s) };
	int ret = seg_cache_stats(g->cache, &s);

	stress_check(!ret, "stats: %s", strerror(-ret));
	stress_check(!s.misuses_total, "misuses: %" PRIu64, s.misuses_total);
	return s;
}

static int check_each(void *ctx, const struct seg_cache_entry_info *info)
{
	(void)ctx;
	stress_check(info->key < KEYS && info->weight >= VALUE_WEIGHT &&
		     info->pins <= (WORKERS_MOST + 1) * (HELD + 2) + HANDED,
		     "each: key %" PRIu64 " has %" PRIu64 " pins", info->key,
		     info->pins);
	return 0;
}

static void set_max(struct worker *w)
{
	uint64_t max = MAX_WEIGHT / 2 + stress_below(&w->random, MAX_WEIGHT);

	stress_check(!seg_cache_set_max_weight(w->game->cache, max), "max");
}

/* A thread that pins, hands its pins over, and ends. */
static void *visit(void *game)
{
	struct worker w = { .game = game, .random = stress_random_of(99) };
	struct held h;

	for (uint64_t key = 0; key < HANDED; key++) {
		if (seg_cache_get(w.game->cache, key, &h.pin))
			continue;
		h.key = key;
		h.value = seg_pin_value(&h.pin);
		h.serial = h.value->serial;
		check(&h);
		hand_over(&w, &h);
	}
	return NULL;
}

static void change(struct worker *w)
{
	struct seg_cache *c = w->game->cache;

	w->tally.changes++;
	switch (stress_below(&w->random, 16)) {
	case 0: case 1: case 2: case 3: case 4:
		put(w, false);
		break;
	case 5: case 6:
		put(w, true);
		break;
	case 7: case 8:
		(void)seg_cache_remove(c, any_key(w), NULL);
		break;
	case 9: case 10:
		take(w);
		break;
	case 11:
		(void)seg_cache_shrink(c, stress_below(&w->random, MAX_WEIGHT),
				       NULL);
		break;
	case 12:
		set_max(w);
		break;
	case 13:
		(void)stats_of(w->game);
		break;
	case 14:
		stress_check(!seg_cache_each(c, check_each, NULL), "each");
		break;
	default:
		if (stress_below(&w->random, 8))
			break;
		(void)seg_cache_clear(c);
		w->tally.visitors++;
		stress_join(stress_start(visit, w->game));
	}
}

/* ------------------------------------------------------------------ rest */

/* Entries that are pinned are counted once, whoever pins them. */
static uint64_t weight_of_pins(struct worker *workers, unsigned n)
{
	const struct value *seen[WORKERS_MOST * HELD + HANDED];
	struct game *g = workers->game;
	unsigned count = 0, i;
	uint64_t weight = 0;

	for (unsigned t = 0; t < n; t++)
		for (i = 0; i < workers[t].holds; i++)
			seen[count++] = workers[t].held[i].value;
	for (i = 0; i < HANDED; i++)
		if (g->handed[i])
			seen[count++] = g->handed[i]->value;
	for (i = 0; i < count; i++) {
		unsigned before = 0;

		while (seen[before] != seen[i])
			before++;
		if (before == i)
			weight += seen[i]->weight;
	}
	return weight;
}

/* Nobody is in a call, but for the library's own thread. */
static struct seg_cache_stats settled(struct game *g)
{
	uint64_t until_ns = stress_now_ns() + SETTLE_S * UINT64_C(1000000000);
	struct seg_cache_stats s;

	for (;;) {
		uint64_t weight = stress_value(&g->weight);

		s = stats_of(g);
		if (s.weight + s.pinned_weight + s.deferred_weight == weight &&
		    s.weight <= s.max_weight)
			return s;
		stress_check(stress_now_ns() < until_ns, "at rest: weight %"
			     PRIu64 " of %" PRIu64 " + %" PRIu64 " pinned + %"
			     PRIu64 " deferred, the values weigh %" PRIu64,
			     s.weight, s.max_weight, s.pinned_weight,
			     s.deferred_weight, weight);
		sched_yield();
	}
}

static void check_rest(struct game *g, struct worker *workers)
{
	uint64_t pinned = weight_of_pins(workers, g->threads);
	struct seg_cache_stats s = settled(g);
	const struct cache_index *ix = &g->cache->index;

	stress_check(s.pinned_weight == pinned, "at rest: %" PRIu64
		     " pinned instead of %" PRIu64, s.pinned_weight, pinned);
	for (uint32_t b = 0; b < cache_index_buckets(ix); b++)
		for (struct cache_entry *e = cache_index_first(ix, b); e;
		     e = cache_index_next(ix, e))
			if (entry_look(e) & ENTRY_OPEN)
				stress_add(&g->open_at_rest, 1);
	stress_add(&g->pinned_rests, pinned != 0);
	stress_check(seg_cache_is_valid(g->cache), "the cache is not valid");
	s = settled(g);
	stress_check(s.pinned_weight == pinned, "closed: %" PRIu64
		     " pinned instead of %" PRIu64, s.pinned_weight, pinned);
	stress_add(&g->rests, 1);
}

static void no_slot(void *ctx, const struct slot_pin *pin)
{
	(void)ctx;
	stress_fail("the slot at %p is in use, and nothing is pinned",
		    (void *)pin->slot);
}

static void empty_handed(struct worker *w)
{
	for (int i = 0; i < HANDED; i++) {
		struct held *h = w->game->handed[i];

		w->game->handed[i] = NULL;
		if (h)
			let_go(w, h);
		free(h);
	}
}

static void play_section(struct worker *w)
{
	unsigned turns = stress_below(&w->random,
				      stress_scale(SECTION_TURNS,
						   SHORT_SECTION_TURNS));

	for (unsigned i = 0; i < turns; i++) {
		if (!stress_below(&w->random, CHANGE_EVERY))
			change(w);
		else if (stress_below(&w->random, 4))
			get(w);
		else
			pin_again(w);
	}
	while (w->game->drops && w->holds)
		drop_any(w);
}

/* By one thread, while the others wait. */
static void rest(struct game *g)
{
	if (g->drops)
		empty_handed(g->workers);
	check_rest(g, g->workers);
	if (g->drops)
		pin_slots_each(no_slot, NULL);
	g->drops = !g->drops;
	g->ends = stress_over();
}

static void *work(void *arg)
{
	struct worker *w = arg;
	struct game *g = w->game;
	bool ends = false;

	while (!ends) {
		play_section(w);
		pthread_barrier_wait(&g->barrier);
		if (w == g->workers)
			rest(g);
		pthread_barrier_wait(&g->barrier);
		ends = g->ends;
	}
	while (w->holds)
		drop_any(w);
	return NULL;
}

/* ------------------------------------------------------------------- stops */

/* A signal handler; now and then for so long that entries come and go. */
static void stand_still(int signal)
{
	static stress_count stops;
	int saved = errno;

	(void)signal;
	if (stress_add(&stops, 1) % LONG_STOPS)
		sched_yield();
	else
		poll(NULL, 0, 1);
	errno = saved;
}

static void *stop_them(void *arg)
{
	struct stress_random random = stress_random_of(98);
	struct game *g = arg;

	while (!stress_over()) {
		uint32_t any = stress_below(&random, g->threads);

		/* It may have ended just now. */
		pthread_kill(g->workers[any].thread, SIGRTMIN);
		stress_sleep_ns(STOP_EVERY_NS);
	}
	return NULL;
}

/* ------------------------------------------------------------------ games */

static struct seg_cache *make_cache(struct game *g)
{
	struct seg_cache_options o = {
		.size = sizeof(o),
		.max_weight = MAX_WEIGHT,
		.listener = on_leave,
		.listener_ctx = g,
		.short_reads = g->short_reads,
	};
	struct seg_cache *cache;
	int ret = seg_cache_create(&o, &cache);

	stress_check(!ret, "seg_cache_create: %s", strerror(-ret));
	return cache;
}

static struct tally sum_up(const struct game *g)
{
	struct tally sum = { 0 };

	for (unsigned i = 0; i < g->threads; i++) {
		const struct tally *t = &g->workers[i].tally;

		sum.gets += t->gets;
		sum.hits += t->hits;
		sum.again += t->again;
		sum.in_slots += t->in_slots;
		sum.moved += t->moved;
		sum.handed += t->handed;
		sum.tagged += t->tagged;
		sum.changes += t->changes;
		sum.visitors += t->visitors;
	}
	return sum;
}

static void report(struct game *g)
{
	struct tally t = sum_up(g);

	printf("%s short reads, %u threads: rests %" PRIu64 " with pins %"
	       PRIu64 " open there %" PRIu64 "\n  pins %" PRIu64 " again %"
	       PRIu64 " in slots %" PRIu64 " moved %" PRIu64 " handed %" PRIu64
	       " tagged %" PRIu64 "\n  changes %" PRIu64 " values left %"
	       PRIu64 " visitors %" PRIu64 "\n",
	       g->short_reads ? "with" : "without", g->threads,
	       stress_value(&g->rests), stress_value(&g->pinned_rests),
	       stress_value(&g->open_at_rest), t.hits, t.again, t.in_slots,
	       t.moved, t.handed, t.tagged, t.changes, stress_value(&g->left),
	       t.visitors);
	if (!sections_begin()) {
		printf("  no membarrier, so no pins in slots\n");
		stress_check(!t.in_slots, "pins in slots, and no barrier");
		return;
	}
	stress_check(t.in_slots && t.moved, "nothing was tried: %" PRIu64
		     " pins in slots, %" PRIu64 " moved", t.in_slots, t.moved);
}

static void end_game(struct game *g)
{
	int ret;

	empty_handed(g->workers);
	stress_check(settled(g).pinned_weight == 0, "pins at the end");
	pin_slots_each(no_slot, NULL);
	report(g);
	ret = seg_cache_destroy(g->cache);
	stress_check(!ret, "seg_cache_destroy: %s", strerror(-ret));
	stress_check(!stress_value(&g->weight), "values are left");
	stress_check(stress_value(&g->left) == stress_value(&g->serials),
		     "%" PRIu64 " values were made, %" PRIu64 " left",
		     stress_value(&g->serials), stress_value(&g->left));
}

static void play(bool short_reads, double seconds)
{
	static struct game game;
	struct game *g = &game;
	pthread_t stopper;

	game = (struct game){ .short_reads = short_reads,
			      .threads = stress_scale(WORKERS_MOST, 4) };
	g->cache = make_cache(g);
	pthread_barrier_init(&g->barrier, NULL, g->threads);
	stress_again();
	for (unsigned i = 0; i < g->threads; i++) {
		g->workers[i].game = g;
		g->workers[i].random = stress_random_of(10 * short_reads + i);
		g->workers[i].thread = stress_start(work, &g->workers[i]);
	}
	stopper = stress_start(stop_them, g);
	stress_run_for(seconds);
	stress_join(stopper);
	for (unsigned i = 0; i < g->threads; i++)
		stress_join(g->workers[i].thread);
	end_game(g);
	pthread_barrier_destroy(&g->barrier);
}

int main(void)
{
	struct sigaction action = { .sa_handler = stand_still,
				    .sa_flags = SA_RESTART };

	stress_begin("stress/pin_slots");
	sigaction(SIGRTMIN, &action, NULL);
	for (int short_reads = 0; short_reads < 2; short_reads++)
		play(short_reads, stress_seconds() / 2);
	return stress_end();
}
