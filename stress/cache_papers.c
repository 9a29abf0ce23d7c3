/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* See cache.c: values with papers, pins and the listener that check them. */
#define _GNU_SOURCE
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "cache_game.h"

_Thread_local struct worker *stress_self;
static _Thread_local bool in_unpin, in_listener;

/* ---------------------------------------------------------------- papers */

static uint64_t body_of(const struct item *item, unsigned i)
{
	return (item->key + 1) * 0x9e3779b97f4a7c15u + item->weight * 977 + i;
}

struct item *item_make(struct worker *w, uint64_t key)
{
	struct item *item = calloc(1, sizeof(*item));

	stress_check(item, "no memory");
	item->key = key;
	item->weight = 1 + stress_below(&w->random, WEIGHT_MOST);
	if (!stress_below(&w->random, 64))
		item->weight = WEIGHT_TOO_HEAVY;
	for (unsigned i = 0; i < BODY; i++)
		item->body[i] = body_of(item, i);
	atomic_init(&item->owner, PAPER_MINE);
	did(&w->game->tally.made);
	return item;
}

/* From one owner to the next; nobody else may have done so. */
static void item_pass(struct item *item, enum paper from, enum paper to)
{
	unsigned old = from;

	stress_check(atomic_compare_exchange_strong_explicit(
			     &item->owner, &old, to, memory_order_relaxed,
			     memory_order_relaxed),
		     "value of key %" PRIu64 ": owner %#x instead of %#x",
		     item->key, old, from);
}

void item_check(const struct item *item, uint64_t key)
{
	unsigned owner = atomic_load_explicit(&item->owner,
					      memory_order_relaxed);

	stress_check(owner == PAPER_CACHE, "key %" PRIu64 ": a value that is "
		     "not the cache's (%#x)", key, owner);
	stress_check(item->key == key, "key %" PRIu64 ": the value of %" PRIu64,
		     key, item->key);
	for (unsigned i = 0; i < BODY; i++)
		stress_check(item->body[i] == body_of(item, i),
			     "key %" PRIu64 ": the value is torn", key);
}

static void item_end(struct item *item)
{
	unsigned pins = atomic_load_explicit(&item->pins, memory_order_relaxed);

	stress_check(!pins, "key %" PRIu64 " left with %u pins", item->key,
		     pins);
	item_pass(item, PAPER_MINE, PAPER_GONE);
	memset(item->body, 0xee, sizeof(item->body));
	free(item);
}

void item_offer(struct game *g, struct item *item)
{
	item_pass(item, PAPER_MINE, PAPER_CACHE);
	stress_add(&g->tally.weight, item->weight);
}

static void item_back(struct game *g, struct item *item)
{
	item_check(item, item->key);
	stress_add(&g->tally.weight, -item->weight);
	item_pass(item, PAPER_CACHE, PAPER_MINE);
}

void item_taken(struct game *g, struct item *item)
{
	item_back(g, item);
	item_end(item);
}

/* ------------------------------------------------------------------ pins */

static void note_pin(struct game *g, struct item *item)
{
	unsigned pins = atomic_fetch_add_explicit(&item->pins, 1,
						  memory_order_relaxed);

	if (!pins)
		stress_add(&g->tally.pinned, item->weight);
	did(&g->tally.pins[pins < PINS_SHOWN ? pins : PINS_SHOWN]);
}

struct held hold(struct game *g, struct seg_pin pin, uint64_t key)
{
	struct held held = { .pin = pin, .item = seg_pin_value(&pin) };

	stress_check(held.item, "key %" PRIu64 ": a pin without a value", key);
	item_check(held.item, key);
	note_pin(g, held.item);
	return held;
}

void let_go(struct game *g, struct held *held)
{
	struct item *item = held->item;
	bool before = in_unpin;
	int ret;

	item_check(item, item->key);
	if (atomic_fetch_sub_explicit(&item->pins, 1,
				      memory_order_relaxed) == 1)
		stress_add(&g->tally.pinned, -item->weight);
	in_unpin = true;
	ret = seg_unpin(&held->pin);
	in_unpin = before;
	stress_check(!ret, "seg_unpin: %s", strerror(-ret));
	held->item = NULL;
}

static void keep(struct worker *w, struct held held)
{
	unsigned at = stress_below(&w->random, HELD);

	if (w->holds < HELD) {
		w->held[w->holds++] = held;
		return;
	}
	let_go(w->game, &w->held[at]);
	w->held[at] = held;
}

/* Whoever comes next to that slot unpins it. */
static void hand_over(struct worker *w, const struct held *held)
{
	struct held *copy = malloc(sizeof(*copy));

	stress_check(copy, "no memory");
	*copy = *held;
	copy = atomic_exchange_explicit(
		&w->game->slot[stress_below(&w->random, SLOTS)], copy,
		memory_order_acq_rel);
	if (!copy)
		return;
	did(&w->game->tally.handed);
	let_go(w->game, copy);
	free(copy);
}

void use(struct worker *w, struct held held)
{
	uint64_t tag = w->index + 1;
	int ret;

	if (!stress_below(&w->random, 4)) {
		ret = seg_pin_tag(&held.pin, tag);
		stress_check(!ret, "seg_pin_tag: %s", strerror(-ret));
	}
	switch (stress_below(&w->random, 8)) {
	case 0:
		keep(w, held);
		break;
	case 1:
		hand_over(w, &held);
		break;
	default:
		let_go(w->game, &held);
	}
}

void drop_one(struct worker *w)
{
	if (w->holds)
		let_go(w->game, &w->held[--w->holds]);
}

/* -------------------------------------------------------------- listener */

static void get_in_listener(struct game *g)
{
	uint64_t key = stress_below(&stress_self->random, KEYS);
	struct seg_pin pin;
	struct held held;

	in_listener = true;
	did(&g->tally.gets);
	if (g->mix->pins && !seg_cache_get(g->cache, key, &pin)) {
		held = hold(g, pin, key);
		did(&g->tally.in_listener);
		let_go(g, &held);
	} else if (!g->mix->pins) {
		stress_add(&g->tally.gets, -1);
	}
	in_listener = false;
}

void on_leave(void *ctx, uint64_t key, void *value, uint64_t weight,
		     enum seg_cause cause)
{
	struct game *g = ctx;
	struct item *item = value;

	stress_check(item->key == key && item->weight == weight,
		     "the listener is told key %" PRIu64 " of %" PRIu64
		     ", weight %" PRIu64 " of %" PRIu64, key, item->key,
		     weight, item->weight);
	item_taken(g, item);
	did(&g->tally.left[cause]);
	if (in_unpin && cause == SEG_CAUSE_EVICTED &&
	    weight != WEIGHT_TOO_HEAVY)
		did(&g->tally.unpin_evictions);
	else if (in_unpin)
		did(&g->tally.hidden_deaths);
	if (stress_self && !in_listener &&
	    !stress_below(&stress_self->random, 16))
		get_in_listener(g);
}
