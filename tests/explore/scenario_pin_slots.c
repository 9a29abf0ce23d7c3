/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Pins in slots against all that ends an entry: the cache has one that is open.
 * Threads 0 and 1 have slots, thread 2 pins in the word.
 */
#include "caches.h"

#include <errno.h>
#include <string.h>

#include "explore_rcu.h"
#include "pin_slots.h"

static struct seg_pin pin;

enum { MADE = 3 };	/* more than come at once */

/* Open from the hit on that finds the mark full. */
static void open_entry(uint64_t key)
{
	for (unsigned i = 0; i <= CACHE_MARK_MOST; i++)
		explore_check(caches_get(key));
}

static void pin_in_slot(void)
{
	explore_check(!seg_cache_get(cache, 1, &pin));
	explore_check(cache_pin_slot(&pin) != 0);
}

static void open_one(uint64_t max_weight, bool short_reads)
{
	memset(pin_slots, 0, sizeof(pin_slots));
	caches_open(max_weight, short_reads);
	caches_put(1, 0);
	explore_as(0);
	open_entry(1);
	pin_in_slot();
}

static void one_open(void)
{
	open_one(1, false);
	explore_check(!seg_unpin(&pin));
}

static void one_open_for_short_reads(void)
{
	open_one(1, true);
	explore_check(!seg_unpin(&pin));
}

static void one_open_and_room(void)
{
	open_one(8, false);
	explore_check(!seg_unpin(&pin));
}

static void one_pinned_in_a_slot(void)
{
	open_one(1, false);
}

static void two_open_and_one_pinned(void)
{
	open_one(2, false);
	explore_check(!seg_unpin(&pin));
	caches_put(3, 2);	/* its entry gets another version */
	explore_check(!seg_cache_remove(cache, 3, NULL));
	caches_put(2, 1);
	open_entry(2);
	pin_in_slot();
}

/* Of one version, both. */
static void two_open_and_the_first_pinned(void)
{
	struct seg_pin first;

	open_one(2, false);
	first = pin;
	caches_put(2, 1);
	open_entry(2);
	explore_check(!seg_cache_get(cache, 2, &pin));
	explore_check(cache_pin_slot(&pin) != 0 &&
		      pin.version >> 32 != first.version >> 32 &&
		      cache_pin_version(&pin) == cache_pin_version(&first));
	explore_check(!seg_unpin(&pin));
	pin = first;
	pin_slots[0].next = 0;	/* that slot is used next, if it is free */
}

/* ---- get against put, which evicts ---- */

static void get_or_evict(unsigned thread)
{
	if (thread == 2)
		caches_put(2, 1);
	else
		caches_get(1);
}

static const struct explore_twin evict_twins[] = {
	EXPLORE_TWIN_SWITCH("no barrier", explore_throw_barrier),
	EXPLORE_TWIN("not closed", SKIP, "entry_shut", "cas"),
	EXPLORE_TWIN("killed while open", BLIND, "entry_kill", "cas"),
	EXPLORE_TWIN("no pin moved", SKIP, "entry_move_in", "add"),
	EXPLORE_TWIN("move not told of", SKIP, "pin_slot_move", "cas"),
	EXPLORE_TWIN("moved blindly", BLIND, "pin_slot_move", "cas"),
	EXPLORE_TWIN("relaxed empty", RELAX, "pin_slot_empty", "store"),
	EXPLORE_TWIN("relaxed look at slots", RELAX, "see", "load"),
	EXPLORE_TWIN("no look at slots", SKIP, "see", "load"),
	{ .name = NULL },
};

/* ---- the same, and the entry comes back at once ---- */

static void get_or_recycle(unsigned thread)
{
	if (thread == 0) {
		caches_get(1);
		return;
	}
	explore_check(!seg_cache_remove(cache, 1, NULL));
	caches_put(2, 1);
	open_entry(2);
}

static const struct explore_twin recycle_twins[] = {
	EXPLORE_TWIN_SWITCH("no barrier", explore_throw_barrier),
	EXPLORE_TWIN("word not looked at again", STALE, "entry_look", "load"),
	EXPLORE_TWIN("hidden while open", BLIND, "entry_hide", "cas"),
	{ .name = NULL },
};

/* ---- unpinned by another thread, while it is closed ---- */

static void unpin_or_replace(unsigned thread)
{
	if (thread == 1)
		caches_unpin(&pin);
	else if (thread == 2)
		caches_replace(1, 1);
	else
		caches_get(1);
}

static const struct explore_twin unpin_twins[] = {
	EXPLORE_TWIN("relaxed end", RELAX, "end_use", "cas"),
	EXPLORE_TWIN("ended blindly", BLIND, "end_use", "cas"),
	EXPLORE_TWIN("no pin moved", SKIP, "entry_move_in", "add"),
	{ .name = NULL },
};

/* ---- unpinned elsewhere, and the slot is filled again ---- */

static void unpin_or_remove(unsigned thread)
{
	if (thread == 1)
		caches_unpin(&pin);
	else if (thread == 2)
		explore_check(!seg_cache_remove(cache, 1, NULL));
	else
		caches_get(2);
}

static const struct explore_twin refill_twins[] = {
	EXPLORE_TWIN("relaxed end", RELAX, "end_use", "cas"),
	EXPLORE_TWIN("relaxed fill", RELAX, "pin_slot_fill", "store"),
	EXPLORE_TWIN("relaxed free slot", RELAX, "is_free", "load"),
	{ .name = NULL },
};

/* ---- the slot's next pin is not taken for the last one ---- */

static void pin_another_or_remove(unsigned thread)
{
	if (thread) {
		explore_check(!seg_cache_remove(cache, 1, NULL));
		return;
	}
	caches_unpin(&pin);
	caches_get(2);
}

static const struct explore_twin another_twins[] = {
	{ .name = "relaxed look at the use", .mutation = EXPLORE_RELAX,
	  .function = "see", .op = "load", .nth = 1 },
	{ .name = "use not counted", .mutation = EXPLORE_SKIP,
	  .function = "pin_slot_fill", .op = "store", .nth = 1 },
	{ .name = NULL },
};

/* ---- given back twice, by mistake: no other pin ends by that ---- */

static void give_back_twice_or_remove(unsigned thread)
{
	struct seg_pin copy = pin;

	if (thread == 2) {
		explore_check(!seg_cache_remove(cache, 2, NULL));
		return;
	}
	(void)seg_unpin(&copy);
	if (!thread)
		caches_get(2);
}

static const struct explore_twin twice_twins[] = {
	EXPLORE_TWIN("ended blindly", BLIND, "end_use", "cas"),
	EXPLORE_TWIN("relaxed look at the use", RELAX, "pin_slot_end", "load"),
	{ .name = NULL },
};

/* ---- taken, and opened again by who pins in the word ---- */

static void get_or_take(unsigned thread)
{
	void *value;
	int ret;

	if (thread) {
		caches_get(1);
		return;
	}
	ret = seg_cache_take(cache, 1, &value);
	explore_check(ret == 0 || ret == -EBUSY);
	if (!ret)
		caches_free(value);
}

static const struct explore_twin take_twins[] = {
	EXPLORE_TWIN_SWITCH("no barrier", explore_throw_barrier),
	EXPLORE_TWIN("killed while open", BLIND, "entry_kill", "cas"),
	EXPLORE_TWIN("no look at slots", SKIP, "see", "load"),
	{ .name = NULL },
};

/* ---- closed, and opened again, while its pin is given back ---- */

static void unpin_or_open_again(unsigned thread)
{
	if (thread == 0)
		caches_unpin(&pin);
	else if (thread == 1)
		caches_get(1);
	else
		get_or_take(0);
}

static const struct explore_twin again_twins[] = {
	EXPLORE_TWIN("use not looked at", SKIP, "pin_slot_leave", "load"),
	EXPLORE_TWIN("word not looked at", STALE, "entry_look", "load"),
	EXPLORE_TWIN("opens while it is shut", SKIP, "entry_shut", "cas"),
	EXPLORE_TWIN("move not told of", SKIP, "pin_slot_move", "cas"),
	EXPLORE_TWIN("relaxed unshut", RELAX, "entry_unshut", "cas"),
	EXPLORE_TWIN_SWITCH("no barrier", explore_throw_barrier),
	{ .name = NULL },
};

/* ---- peeks, too ---- */

static void use_or_evict(unsigned thread)
{
	if (thread == 0)
		caches_get(1);
	else if (thread == 1)
		caches_peek(1);
	else
		caches_put(2, 1);
}

static const struct explore_twin peek_twins[] = {
	EXPLORE_TWIN_SWITCH("no barrier", explore_throw_barrier),
	{ .name = NULL },
};

/* ---- what is pinned is looked at while entries are made ---- */

static void get_or_look(unsigned thread)
{
	struct seg_cache_stats s = { .size = sizeof(s) };

	if (thread == 0) {
		caches_get(1);
		return;
	}
	if (thread == 2) {
		for (unsigned i = 1; i <= MADE; i++)
			caches_put(i + 1, i);
		return;
	}
	explore_check(!seg_cache_stats(cache, &s));
	explore_check(s.pinned_weight <= 1 && s.weight <= MADE + 1);
}

/* The list of groups is plain memory, which is not explored. */
static const struct explore_twin look_twins[] = {
	{ .name = NULL },
};

const struct explore_scenario explore_pin_slots[] = {
	{ "an open entry is evicted", 3, one_open, get_or_evict, caches_close,
	  evict_twins, false },
	{ "an open entry is used again", 2, one_open_and_room, get_or_recycle,
	  caches_close, recycle_twins, false },
	{ "unpinned elsewhere while it is closed", 3, one_pinned_in_a_slot,
	  unpin_or_replace, caches_close, unpin_twins, false },
	{ "unpinned elsewhere, and the slot is filled again", 3,
	  two_open_and_one_pinned, unpin_or_remove, caches_close, refill_twins,
	  false },
	{ "another is pinned while one is removed", 2,
	  two_open_and_the_first_pinned, pin_another_or_remove, caches_close,
	  another_twins, false },
	{ "given back twice while another is pinned", 3,
	  two_open_and_the_first_pinned, give_back_twice_or_remove,
	  caches_close, twice_twins, false },
	{ "an open entry is taken", 3, one_open, get_or_take, caches_close,
	  take_twins, false },
	{ "given back while it is closed and opened again", 3,
	  one_pinned_in_a_slot, unpin_or_open_again, caches_close, again_twins,
	  false },
	{ "an open entry is evicted under short reads", 3,
	  one_open_for_short_reads, use_or_evict, caches_close, peek_twins,
	  false },
	{ "pins in slots are looked at", 3, one_open_and_room, get_or_look,
	  caches_close, look_twins, false },
	{ .name = NULL },
};
