/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* See cache.c: the operations, and which of them a game mixes. */
#define _GNU_SOURCE
#include <errno.h>
#include <inttypes.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>

#include "cache_game.h"

/* ------------------------------------------------------------ operations */

static uint64_t any_key(struct worker *w)
{
	return stress_below(&w->random, KEYS);
}

static int insert(struct worker *w, struct item *item, bool replaces,
		  struct seg_pin *pin)
{
	struct tally *t = &w->game->tally;
	bool heavy = item->weight == WEIGHT_TOO_HEAVY;
	uint64_t key = item->key, weight = item->weight;
	int ret;

	item_offer(w->game, item);
	ret = replaces ? seg_cache_replace(w->game->cache, key, item, weight,
					   pin) :
			 seg_cache_put(w->game->cache, key, item, weight, pin);
	if (!ret) {
		did(replaces ? &t->replaces : &t->puts);
		return 0;
	}
	stress_check((ret == -EEXIST && !replaces) || (ret == -E2BIG && heavy),
		     "a put failed: %s", strerror(-ret));
	did(ret == -EEXIST ? &t->lost : &t->heavy);
	did(&t->refused);
	item_taken(w->game, item);
	return ret;
}

static void insert_any(struct worker *w, bool replaces)
{
	struct item *item = item_make(w, any_key(w));
	uint64_t key = item->key;
	struct seg_pin pin;

	if (!w->game->mix->pins || stress_below(&w->random, 2)) {
		(void)!insert(w, item, replaces, NULL);
		return;
	}
	if (insert(w, item, replaces, &pin))
		return;
	stress_check(seg_pin_value(&pin) == item, "pinned is another value");
	use(w, hold(w->game, pin, key));
}

static void op_put(struct worker *w)
{
	insert_any(w, false);
}

void replace_any(struct worker *w)
{
	insert_any(w, true);
}

static void op_get(struct worker *w)
{
	uint64_t key = any_key(w);
	struct seg_pin pin;
	int ret = seg_cache_get(w->game->cache, key, &pin);

	did(&w->game->tally.gets);
	stress_check(!ret || ret == -ENOENT, "get: %s", strerror(-ret));
	if (!ret)
		use(w, hold(w->game, pin, key));
}

static void op_take(struct worker *w)
{
	struct tally *t = &w->game->tally;
	uint64_t key = any_key(w);
	void *value;
	int ret = seg_cache_take(w->game->cache, key, &value);

	switch (ret) {
	case 0:
		did(&t->taken);
		item_check(value, key);
		item_taken(w->game, value);
		break;
	case -EBUSY:
		stress_check(w->game->mix->pins, "busy, and nobody pins");
		did(&t->busy);
		break;
	default:
		stress_check(ret == -ENOENT, "take: %s", strerror(-ret));
		did(&t->none);
	}
}

static void op_remove(struct worker *w)
{
	int ret = seg_cache_remove(w->game->cache, any_key(w), NULL);

	stress_check(!ret || ret == -ENOENT, "remove: %s", strerror(-ret));
	if (!ret)
		did(&w->game->tally.removed);
}

/* By its value: what this thread pins is in, or was replaced or removed. */
static void op_remove_value(struct worker *w)
{
	struct item *item = w->holds ? w->held[0].item : NULL;
	int ret;

	if (!item)
		return;
	ret = seg_cache_remove(w->game->cache, item->key, item);
	stress_check(!ret || ret == -ENOENT, "remove: %s", strerror(-ret));
	stress_check(seg_cache_remove(w->game->cache, item->key, item) ==
			     -ENOENT, "a value was removed twice");
	item_check(item, item->key);
}

static void op_shrink(struct worker *w)
{
	uint64_t evicted = 0;
	int ret = seg_cache_shrink(w->game->cache,
				   stress_below(&w->random, WEIGHT_LEAST_MAX),
				   &evicted);

	stress_check(!ret, "shrink: %s", strerror(-ret));
}

static void op_set_max(struct worker *w)
{
	uint64_t max = WEIGHT_LEAST_MAX +
		       stress_below(&w->random, WEIGHT_LEAST_MAX);
	int ret = seg_cache_set_max_weight(w->game->cache, max);

	stress_check(!ret, "set_max_weight: %s", strerror(-ret));
}

/* A key that only this thread uses: what was in at the call is out after. */
static void op_clear(struct worker *w)
{
	struct seg_cache *c = w->game->cache;
	struct item *item;
	uint64_t key = KEYS + w->index;
	struct seg_pin pin;
	int ret;

	if (stress_below(&w->random, 8))
		return;
	item = item_make(w, key);
	(void)!insert(w, item, true, NULL);
	ret = seg_cache_clear(c);
	stress_check(!ret, "clear: %s", strerror(-ret));
	did(&w->game->tally.gets);
	ret = seg_cache_get(c, key, &pin);
	stress_check(ret == -ENOENT, "key %" PRIu64 " was put before a clear, "
		     "and is still there", key);
}

/* A key that only this thread uses, so that each answer is known. */
static void op_own(struct worker *w)
{
	struct seg_cache *c = w->game->cache;
	uint64_t key = KEYS + w->index;
	struct item *item = item_make(w, key);
	int wrong, ret;
	void *value;

	if (insert(w, item, true, NULL))
		return;
	wrong = seg_cache_remove(c, key, w);
	ret = seg_cache_take(c, key, &value);
	stress_check(wrong == -ENOENT, "removed, but it was another value");
	stress_check(!ret || ret == -ENOENT, "own key: take: %s",
		     strerror(-ret));
	if (!ret) {
		did(&w->game->tally.taken);
		stress_check(value == item, "own key: another's value");
		item_taken(w->game, item);
	}
}

static void op_peek(struct worker *w)
{
	struct game *g = w->game;
	uint64_t key = any_key(w);
	void *value;
	int ret;

	seg_read_begin();
	ret = seg_cache_peek(g->cache, key, &value);
	stress_check(g->short_reads ? !ret || ret == -ENOENT : ret == -EPERM,
		     "peek: %s", strerror(-ret));
	if (g->short_reads)
		did(&g->tally.peeks);
	for (int i = 0; !ret && i < 3; i++) {
		item_check(value, key);
		if (!stress_below(&w->random, 64))
			sched_yield();
	}
	seg_read_end();
}

static int check_each(void *ctx, const struct seg_cache_entry_info *info)
{
	struct worker *w = ctx;

	stress_check(info->size == sizeof(*info) && info->weight &&
		     info->value && info->mark <= 3 &&
		     info->key < KEYS + WORKERS_MOST,
		     "each: key %" PRIu64 ", weight %" PRIu64, info->key,
		     info->weight);
	stress_check(w->game->mix->pins || !info->pins, "each: a pin");
	if (w->game->short_reads)
		item_check(info->value, info->key);
	return 0;
}

static void op_each(struct worker *w)
{
	int ret = seg_cache_each(w->game->cache, check_each, w);

	stress_check(!ret, "each: %s", strerror(-ret));
}

struct seg_cache_stats stats_of(struct game *g)
{
	struct seg_cache_stats s = { .size = sizeof(s) };
	int ret = seg_cache_stats(g->cache, &s);

	stress_check(!ret, "stats: %s", strerror(-ret));
	return s;
}

/* Where nobody pins and the maximum stays, the weight never exceeds it. */
static void op_stats(struct worker *w)
{
	struct seg_cache_stats s = stats_of(w->game);

	stress_check(!s.misuses_total, "misuses: %" PRIu64, s.misuses_total);
	stress_check(w->game->mix->pins || s.weight <= s.max_weight,
		     "weight %" PRIu64 " of %" PRIu64, s.weight, s.max_weight);
	stress_check(w->game->mix->pins || !s.pinned_weight,
		     "%" PRIu64 " pinned, by nobody", s.pinned_weight);
}

static void op_pins(struct worker *w)
{
	struct seg_pin_report r = { .size = sizeof(r) };
	int ret = seg_cache_pins(w->game->cache, &r);

	stress_check(!ret, "pins: %s", strerror(-ret));
	for (unsigned i = 0; i < SEG_PINS_MOST; i++)
		stress_check(r.longest[i].tag <= WORKERS_MOST &&
			     r.biggest[i].tag <= WORKERS_MOST &&
			     r.longest[i].key < KEYS + WORKERS_MOST,
			     "a tag that nobody gave");
}

static void op_drop(struct worker *w)
{
	drop_one(w);
}

/* ----------------------------------------------------------------- loads */

static int load(void *ctx, uint64_t key, void **ret_value,
		uint64_t *ret_weight);

/* The key is being loaded, by this thread. */
static void ask_for_own(struct worker *w, uint64_t key)
{
	struct seg_pin pin;
	int ret = seg_cache_get_or_load(w->game->cache, key, load, w, 0, &pin);

	did(&w->game->tally.asks);
	stress_check(ret == -EDEADLK, "a loader waits for itself: %d", ret);
	did(&w->game->tally.deadlocks);
}

static void ask(struct worker *w, uint64_t keys)
{
	static const int waits[] = { 0, 0, 1, SEG_NO_WAIT };
	uint64_t key = stress_below(&w->random, (uint32_t)keys);
	int wait_ms = waits[stress_below(&w->random, 4)];
	struct seg_pin pin;
	int ret = seg_cache_get_or_load(w->game->cache, key, load, w, wait_ms,
					&pin);

	did(&w->game->tally.asks);
	stress_check(!ret || ret == -EIO ||
		     (ret == -EAGAIN && wait_ms == SEG_NO_WAIT) ||
		     (ret == -ETIMEDOUT && wait_ms == 1),
		     "get_or_load, wait %d: %s", wait_ms, strerror(-ret));
	if (ret == -EAGAIN || ret == -ETIMEDOUT)
		did(&w->game->tally.waits);
	if (!ret)
		use(w, hold(w->game, pin, key));
}

static void op_load(struct worker *w)
{
	ask(w, KEYS);
}

/* What a loader may do meanwhile: other keys, lower ones, so that loaders do
 * not wait for each other in a circle. */
static void dawdle(struct worker *w, uint64_t key)
{
	switch (stress_below(&w->random, 8)) {
	case 0:
		if (!w->game->mix->removes)
			ask_for_own(w, key);
		break;
	case 1:
		if (key)
			ask(w, key);
		break;
	default:
		for (unsigned i = stress_below(&w->random, 4); i; i--)
			sched_yield();
	}
}

static int load(void *ctx, uint64_t key, void **ret_value,
		uint64_t *ret_weight)
{
	struct worker *w = ctx;
	struct game *g = w->game;
	struct item *item;

	did(&g->tally.loaders);
	if (atomic_fetch_add_explicit(&g->loading[key], 1,
				      memory_order_relaxed)) {
		stress_check(g->mix->removes, "key %" PRIu64
			     " is loaded by two at a time", key);
		did(&g->tally.side_by_side);
	}
	dawdle(w, key);
	atomic_fetch_sub_explicit(&g->loading[key], 1, memory_order_relaxed);
	if (!stress_below(&w->random, 8)) {
		did(&g->tally.failures);
		return -EIO;
	}
	item = item_make(w, key);
	item_offer(g, item);
	*ret_value = item;
	*ret_weight = item->weight;
	did(&g->tally.loaded);
	return 0;
}

/* ------------------------------------------------------------------- mix */

static op_fn *const all_ops[] = {
	op_put, op_put, replace_any, op_get, op_get, op_get, op_get, op_load,
	op_load, op_load, op_take, op_take, op_remove, op_remove_value,
	op_shrink, op_set_max, op_peek, op_peek, op_each, op_stats, op_pins,
	op_clear, op_own, op_own, op_drop,
};
static op_fn *const load_ops[] = {
	op_put, op_get, op_get, op_load, op_load, op_load, op_load, op_load,
	op_shrink, op_set_max, op_peek, op_each, op_stats, op_drop,
};
static op_fn *const unpinned_ops[] = {
	op_put, op_put, op_put, op_put, replace_any, replace_any, op_take,
	op_remove, op_shrink, op_peek, op_peek, op_each, op_stats, op_stats,
	op_stats, op_clear, op_own,
};

#define OPS(ops) (ops), sizeof(ops) / sizeof(*(ops))

const struct mix stress_mixes[] = {
	{ "all", OPS(all_ops), true, true },
	{ "loads", OPS(load_ops), false, true },
	{ "unpinned", OPS(unpinned_ops), true, false },
};
const unsigned stress_mix_count = sizeof(stress_mixes) /
				  sizeof(*stress_mixes);
