/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The index: what is in it is found, whatever is split, inserted or removed
 * meanwhile.  It begins with one bucket here, so that a round has one split or
 * two.  Entries are memory of their own: freed, a look-up must not meet them.
 */
#include "explore.h"

#include <string.h>

#include "cache_index.h"
#include "explore_rcu.h"
#include "keeper.h"
#include "os.h"

/* Keys by the lowest bits of their hash. */
enum { KEY_000 = 2, KEY_100 = 1, KEY_010 = 13, KEY_001 = 4 };

static struct cache_index index_;
static bool grows;	/* as soon as it has settled */

static struct cache_entry *add(uint64_t key)
{
	struct cache_entry *e = os_calloc(1, sizeof(*e));

	e->key = key;
	entry_begin(e, 0, 0);
	ptr_store_relaxed(&e->value, e);
	cache_index_insert(&index_, e);
	return e;
}

/* The keeper's work.  No lock: who runs it is the one who inserts. */
static bool settle(struct work *work)
{
	explore_check(work == &index_.settle);
	cache_index_settled(&index_);
	if (grows)
		cache_index_grow(&index_);
	return true;
}

/* In one chain, the last one first, and nothing is split yet. */
static void open_chain(void)
{
	memset(&index_, 0, sizeof(index_));
	grows = true;
	explore_check(cache_index_init(&index_, settle));
	u32_store_relaxed(&index_.settled, 0);
}

static void find(uint64_t key)
{
	struct cache_entry *e;

	rcu_enter();
	e = cache_index_find(&index_, key);
	explore_check(e && e->key == key);
	explore_check(ptr_load_relaxed(&e->value) == e);
	rcu_leave();
}

static void is_valid(void)
{
	keeper_flush();
	explore_check(cache_index_is_valid(&index_));
}

/* ---- split against find ---- */

static void two_in_a_chain(void)
{
	open_chain();
	add(KEY_001);
	add(KEY_000);
	cache_index_settled(&index_);
}

/* Inserting a third one splits, as often as it may. */
static void insert_or_find(unsigned thread)
{
	if (thread == 0) {
		add(KEY_010);
		return;
	}
	find(thread == 1 ? KEY_001 : KEY_000);
	find(KEY_001);
}

/* As before, but in two buckets: the round has two splits. */
static void two_buckets(void)
{
	open_chain();
	cache_index_settled(&index_);
	add(KEY_010);
	add(KEY_001);
	add(KEY_000);
	grows = false;
	keeper_flush();
}

static void split_or_find(unsigned thread)
{
	if (thread == 0) {
		cache_index_grow(&index_);
		cache_index_grow(&index_);
		return;
	}
	find(thread == 1 ? KEY_010 : KEY_001);
	find(KEY_010);
}

static const struct explore_twin split_twins[] = {
	{ .name = "no second look at the shape", .mutation = EXPLORE_STALE,
	  .function = "cache_index_find", .op = "load", .nth = 2 },
	EXPLORE_TWIN("relaxed look at the bucket", RELAX, "cache_index_first",
		     "load"),
	EXPLORE_TWIN("all of the split relaxed", RELAX, "split", "store_rel"),
	{ .name = NULL },
};

static const struct explore_twin bucket_twins[] = {
	{ .name = "no second look at the shape", .mutation = EXPLORE_STALE,
	  .function = "cache_index_find", .op = "load", .nth = 2 },
	EXPLORE_TWIN("relaxed look at the bucket", RELAX, "cache_index_first",
		     "load"),
	EXPLORE_TWIN("all of the split relaxed", RELAX, "split", "store_rel"),
	{ .name = NULL },
};

/* A walk over all buckets, which nobody promises to meet each entry once. */
static void walk_or_split(unsigned thread)
{
	uint32_t seen = 0;

	if (thread == 0) {
		add(KEY_010);
		return;
	}
	rcu_enter();
	for (uint32_t b = 0; b < cache_index_buckets(&index_); b++) {
		unsigned side;
		struct cache_entry *e = cache_index_first(&index_, b, &side);

		for (; e; e = cache_index_next(e, side))
			seen += ptr_load_relaxed(&e->value) == e;
	}
	rcu_leave();
	explore_check(seen >= 1 && seen <= 6);
}

static const struct explore_twin walk_twins[] = {
	EXPLORE_TWIN("relaxed count of buckets", RELAX, "cache_index_buckets",
		     "load"),
	{ .name = NULL },
};

/* ---- the second round ---- */

/* The keeper's turn comes at once, and again. */
static void two_that_stay(void)
{
	open_chain();
	add(KEY_010);
	add(KEY_000);
	cache_index_settled(&index_);
}

static void grow_or_find(unsigned thread)
{
	if (thread == 0) {
		add(KEY_100);
		explore_keeper_run();
		explore_keeper_run();
		return;
	}
	find(KEY_010);
}

static const struct explore_twin round_twins[] = {
	EXPLORE_TWIN_SWITCH("no grace period", explore_throw_grace_period),
	{ .name = NULL },
};

/* A round that begins while the settling of the last one is not over. */
static void insert_twice_or_find(unsigned thread)
{
	if (thread == 0) {
		add(KEY_100);
		add(KEY_001);
		return;
	}
	find(KEY_010);
}

static const struct explore_twin unsettled_twins[] = {
	EXPLORE_TWIN("round not ended", SKIP, "split", "store_relaxed"),
	{ .name = NULL },
};

/* ---- remove against find ---- */

static struct cache_entry *head, *middle;

static void three_in_a_chain(void)
{
	open_chain();
	add(KEY_000);
	middle = add(KEY_010);
	head = add(KEY_100);
}

static void end(struct cache_entry *e)
{
	rcu_wait_for_readers();
	os_free(e);
}

static void remove_or_find(unsigned thread)
{
	if (thread == 0) {
		cache_index_remove(&index_, middle);
		end(middle);
		cache_index_remove(&index_, head);
		add(KEY_001);
		end(head);
		return;
	}
	find(KEY_000);
	find(KEY_000);
}

static const struct explore_twin remove_twins[] = {
	EXPLORE_TWIN_SWITCH("no grace period", explore_throw_grace_period),
	EXPLORE_TWIN("not unlinked", SKIP, "bypass", "store_release"),
	EXPLORE_TWIN("relaxed insertion", RELAX, "cache_index_insert",
		     "store_rel"),
	EXPLORE_TWIN("link left out", SKIP, "cache_index_insert",
		     "store_relaxed"),
	{ .name = NULL },
};

const struct explore_scenario explore_cache_index[] = {
	{ .name = "index: first split against look-ups", .threads = 3,
	  .setup = two_in_a_chain, .body = insert_or_find, .post = is_valid,
	  .twins = split_twins },
	{ .name = "index: two splits against look-ups", .threads = 3,
	  .setup = two_buckets, .body = split_or_find, .post = is_valid,
	  .twins = bucket_twins },
	{ .name = "index: split against a walk", .threads = 2,
	  .setup = two_in_a_chain, .body = walk_or_split,
	  .post = is_valid, .twins = walk_twins },
	{ .name = "index: second round against a look-up", .threads = 2,
	  .setup = two_that_stay, .body = grow_or_find, .post = is_valid,
	  .twins = round_twins },
	{ .name = "index: no second round yet", .threads = 2,
	  .setup = two_that_stay, .body = insert_twice_or_find,
	  .post = is_valid, .twins = unsettled_twins },
	{ .name = "index: remove against look-ups", .threads = 3,
	  .setup = three_in_a_chain, .body = remove_or_find,
	  .post = is_valid, .twins = remove_twins },
	{ .name = NULL },
};
