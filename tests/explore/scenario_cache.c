/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The cache by its own calls: get and pin against all that changes the set of
 * entries, and the weights.
 */
#include "caches.h"

#include <errno.h>

#include "explore_rcu.h"

static struct seg_pin pin[2];

/* ---- get against put, which evicts ---- */

static void one_in(void)
{
	caches_open(1, false);
	caches_put(1, 0);
}

static void get_or_evict(unsigned thread)
{
	if (thread == 0)
		caches_put(2, 1);
	else
		caches_get(1);
}

static const struct explore_twin evict_twins[] = {
	EXPLORE_TWIN("check, then pin", SPLIT, "entry_pin", "cas"),
	EXPLORE_TWIN("check, then kill", SPLIT, "entry_kill", "cas"),
	EXPLORE_TWIN("blind kill", BLIND, "entry_kill", "cas"),
	EXPLORE_TWIN("relaxed quick unpin", RELAX, "entry_unpin_plain", "cas"),
	{ .name = NULL },
};

/* ---- the same, and the entry is used again ---- */

static void get_or_recycle(unsigned thread)
{
	if (thread) {
		caches_get(1);
		return;
	}
	caches_put(2, 1);
	explore_keeper_run();
	explore_keeper_run();
	caches_put(3, 2);
}

static const struct explore_twin recycle_twins[] = {
	EXPLORE_TWIN_SWITCH("no grace period", explore_throw_grace_period),
	{ .name = NULL },
};

/* ---- take against get, and another take ---- */

static void get_or_take(unsigned thread)
{
	void *value;
	int ret;

	if (thread == 2) {
		caches_get(1);
		return;
	}
	ret = seg_cache_take(cache, 1, &value);
	explore_check(ret == 0 || ret == -EBUSY || ret == -ENOENT);
	if (!ret)
		caches_free(value);
}

static const struct explore_twin take_twins[] = {
	EXPLORE_TWIN("check, then pin", SPLIT, "entry_pin", "cas"),
	EXPLORE_TWIN("check, then kill", SPLIT, "entry_kill", "cas"),
	EXPLORE_TWIN("relaxed quick unpin", RELAX, "entry_unpin_plain", "cas"),
	{ .name = NULL },
};

/* ---- replace against get, which must find it ---- */

static void one_of_two_in(void)
{
	caches_open(2, false);
	caches_put(1, 0);
}

static void get_or_replace(unsigned thread)
{
	if (thread == 0)
		caches_replace(1, 2);
	else
		explore_check(caches_get(1));
}

static const struct explore_twin replace_twins[] = {
	EXPLORE_TWIN("check, then hide", SPLIT, "entry_hide", "cas"),
	EXPLORE_TWIN("blind hide", BLIND, "entry_hide", "cas"),
	EXPLORE_TWIN("relaxed quick unpin", RELAX, "entry_unpin_plain", "cas"),
	EXPLORE_TWIN("second look sees what the first saw", STALE,
		     "cache_index_first", "load"),
	{ .name = NULL },
};

/* The same behind another entry of the chain, on which a look-up may stand. */
static void two_in_a_chain(void)
{
	caches_open(4, false);
	caches_put(1, 0);
	caches_put(2, 1);
}

static const struct explore_twin chain_twins[] = {
	EXPLORE_TWIN("check, then hide", SPLIT, "entry_hide", "cas"),
	EXPLORE_TWIN("second look sees what the first saw", STALE,
		     "cache_index_next", "load"),
	{ .name = NULL },
};

/* ---- remove of a pinned one, by which two read ---- */

static void pinned_twice(void)
{
	caches_open(2, false);
	caches_put_pinned(1, 0, &pin[0]);
	explore_check(!seg_cache_get(cache, 1, &pin[1]));
}

static void unpin_or_remove(unsigned thread)
{
	if (thread < 2)
		caches_unpin(&pin[thread]);
	else
		explore_check(!seg_cache_remove(cache, 1, NULL));
}

static const struct explore_twin remove_twins[] = {
	EXPLORE_TWIN("check, then hide", SPLIT, "entry_hide", "cas"),
	EXPLORE_TWIN("blind unpin", BLIND, "entry_unpin", "cas"),
	EXPLORE_TWIN("relaxed unpin", RELAX, "entry_unpin", "cas"),
	{ .name = NULL },
};

/* ---- C2: the weight is within the maximum again ---- */

static void all_is_pinned(void)
{
	caches_open(1, false);
	caches_put_pinned(1, 0, &pin[0]);
	caches_put_pinned(2, 1, &pin[1]);
}

static void unpin_or_put(unsigned thread)
{
	if (thread < 2)
		caches_unpin(&pin[thread]);
	else
		caches_put(3, 2);
}

static const struct explore_twin weight_twins[] = {
	EXPLORE_TWIN("request left out", SKIP, "gate_try_or_ask", "cas"),
	EXPLORE_TWIN("look, then ask", SPLIT, "gate_try_or_ask", "cas"),
	{ .name = NULL },
};

/* As resident crosses the maximum, the last unpin must learn of it. */
static void one_is_pinned(void)
{
	caches_open(1, false);
	caches_put_pinned(1, 0, &pin[0]);
}

static void unpin_or_exceed(unsigned thread)
{
	if (thread == 0)
		caches_unpin(&pin[0]);
	else
		caches_put(2, 1);
}

static const struct explore_twin exceed_twins[] = {
	EXPLORE_TWIN("not said that it is too much", SKIP, "exceeds", "store"),
	EXPLORE_TWIN("relaxed unpin", RELAX, "weigh_unpin", "sub"),
	EXPLORE_TWIN("relaxed look at it", RELAX, "weigh_unpin", "load"),
	EXPLORE_TWIN("not looked at", SKIP, "weigh_unpin", "load"),
	{ .name = NULL },
};

/* The maximum shrinks under a pinned one. */
static void two_are_in(void)
{
	caches_open(2, false);
	caches_put(2, 1);
	caches_put_pinned(1, 0, &pin[0]);
}

static void unpin_or_shrink(unsigned thread)
{
	if (thread == 0)
		caches_unpin(&pin[0]);
	else
		explore_check(!seg_cache_set_max_weight(cache, 1));
}

static const struct explore_twin shrink_twins[] = {
	EXPLORE_TWIN("not said that it is too much", SKIP, "add_resident",
		     "store"),
	EXPLORE_TWIN("not looked at", SKIP, "weigh_unpin", "load"),
	{ .name = NULL },
};

/* ---- short reads: no pin ---- */

static void one_in_for_short_reads(void)
{
	caches_open(1, true);
	caches_put(1, 0);
}

static void peek_or_evict(unsigned thread)
{
	void *value;

	if (thread == 0) {
		caches_put(2, 1);
		explore_keeper_run();
		return;
	}
	seg_read_begin();
	if (!seg_cache_peek(cache, thread, &value))
		caches_read(value);
	seg_read_end();
}

static const struct explore_twin peek_twins[] = {
	EXPLORE_TWIN_SWITCH("no grace period", explore_throw_grace_period),
	EXPLORE_TWIN("listener before unlink", SKIP, "bypass",
		     "store_release"),
	EXPLORE_TWIN("relaxed insertion", RELAX, "cache_index_insert",
		     "store_rel"),
	{ .name = NULL },
};

static void peek_or_take(unsigned thread)
{
	void *value;

	if (thread == 0) {
		if (!seg_cache_take(cache, 1, &value))
			caches_free(value);
		return;
	}
	seg_read_begin();
	if (!seg_cache_peek(cache, 1, &value))
		caches_read(value);
	seg_read_end();
}

static const struct explore_twin peek_take_twins[] = {
	EXPLORE_TWIN_SWITCH("no grace period", explore_throw_grace_period),
	{ .name = NULL },
};

const struct explore_scenario explore_cache[] = {
	{ .name = "cache: get against eviction", .threads = 3,
	  .setup = one_in, .body = get_or_evict, .post = caches_close,
	  .twins = evict_twins },
	{ .name = "cache: get against recycling", .threads = 2,
	  .setup = one_in, .body = get_or_recycle, .post = caches_close,
	  .twins = recycle_twins },
	{ .name = "cache: get against two takes", .threads = 3,
	  .setup = one_in, .body = get_or_take, .post = caches_close,
	  .twins = take_twins },
	{ .name = "cache: get against replace", .threads = 2,
	  .setup = one_of_two_in, .body = get_or_replace,
	  .post = caches_close, .twins = replace_twins },
	{ .name = "cache: get against replace in a chain", .threads = 2,
	  .setup = two_in_a_chain, .body = get_or_replace,
	  .post = caches_close, .twins = chain_twins },
	{ .name = "cache: two unpin what is removed", .threads = 3,
	  .setup = pinned_twice, .body = unpin_or_remove,
	  .post = caches_close, .twins = remove_twins },
	{ .name = "cache: two unpins and a put", .threads = 3,
	  .setup = all_is_pinned, .body = unpin_or_put,
	  .post = caches_close, .twins = weight_twins },
	{ .name = "cache: unpin against a put that exceeds", .threads = 2,
	  .setup = one_is_pinned, .body = unpin_or_exceed,
	  .post = caches_close, .twins = exceed_twins },
	{ .name = "cache: unpin against a smaller maximum", .threads = 2,
	  .setup = two_are_in, .body = unpin_or_shrink,
	  .post = caches_close, .twins = shrink_twins },
	{ .name = "cache: short read against eviction", .threads = 3,
	  .setup = one_in_for_short_reads, .body = peek_or_evict,
	  .post = caches_close, .twins = peek_twins },
	{ .name = "cache: short read against take", .threads = 2,
	  .setup = one_in_for_short_reads, .body = peek_or_take,
	  .post = caches_close, .twins = peek_take_twins },
	{ .name = NULL },
};
