/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The cache by its own calls: get, pin and peek against all that changes the
 * set of entries, each of which is used again at once; and the weights.
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
	EXPLORE_TWIN("check, then pin alone", SPLIT, "entry_pin_alone", "cas"),
	EXPLORE_TWIN("blind pin", BLIND, "entry_pin_alone", "cas"),
	EXPLORE_TWIN("check, then kill", SPLIT, "entry_kill", "cas"),
	EXPLORE_TWIN("blind kill", BLIND, "entry_kill", "cas"),
	EXPLORE_TWIN("relaxed quick unpin", RELAX, "entry_unpin_plain", "cas"),
	EXPLORE_TWIN_ONLY("only the state compared", "entry_pin", "cas",
			  ENTRY_STATE),
	{ .name = NULL },
};

/* ---- the same, and the entry comes back with the same key ---- */

static void get_or_recycle(unsigned thread)
{
	if (thread) {
		caches_get(thread);
		return;
	}
	caches_put(2, 1);
	caches_replace(1, 2);
}

static const struct explore_twin recycle_twins[] = {
	EXPLORE_TWIN_ONLY("only the state of one alone compared",
			  "entry_pin_alone", "cas", ENTRY_STATE),
	EXPLORE_TWIN_ONLY("only the state compared", "entry_pin", "cas",
			  ENTRY_STATE),
	EXPLORE_TWIN("relaxed begin", RELAX, "entry_begin", "store"),
	EXPLORE_TWIN("relaxed quick unpin", RELAX, "entry_unpin_plain", "cas"),
	{ .name = NULL },
};

/* ---- what stands behind another one, which is used again ---- */

/* The two of them are in one bucket, whatever is split, the third is not. */
enum { LAST = 9, FIRST = 2, ELSEWHERE = 4 };

static void put_a_chain(void)
{
	caches_put(FIRST, 1);
	caches_put(LAST, 0);
}

static void a_chain(void)
{
	caches_open(4, false);
	put_a_chain();
}

static void use_first_again(void)
{
	explore_check(!seg_cache_remove(cache, FIRST, NULL));
	caches_put(ELSEWHERE, 2);
}

/* At once by the longer way, which makes sure that a miss is one. */
static void get_or_use_first_again(unsigned thread)
{
	struct cache_entry *e;
	uint64_t word;

	if (thread == 0) {
		use_first_again();
		return;
	}
	e = cache_find_and_pin(cache, LAST, &word);
	explore_check(e && entry_key(e) == LAST);
	caches_read(ptr_load_relaxed(&e->value));
	explore_check(cache_unpin(cache, e, entry_version(word)));
}

static const struct explore_twin behind_twins[] = {
	EXPLORE_TWIN("change not raised", SKIP, "cache_index_change", "store"),
	EXPLORE_TWIN("relaxed change", RELAX, "cache_index_change", "store"),
	{ .name = "no second look at the changes", .mutation = EXPLORE_STALE,
	  .function = "cache_index_find", .op = "load", .nth = 3 },
	{ .name = NULL },
};

static void a_chain_for_short_reads(void)
{
	caches_open(4, true);
	put_a_chain();
}

static void peek_or_use_first_again(unsigned thread)
{
	if (thread == 0)
		use_first_again();
	else
		explore_check(caches_peek(LAST));
}

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
	caches_open(4, false);
	caches_put(1, 0);
}

/* The old one's entry is used again. */
static void get_or_replace(unsigned thread)
{
	if (thread == 0) {
		caches_replace(1, 2);
		caches_put(ELSEWHERE, 3);
	} else {
		explore_check(caches_get(1));
	}
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
static void get_or_replace_last(unsigned thread)
{
	if (thread == 0) {
		caches_replace(LAST, 2);
		caches_put(ELSEWHERE, 3);
	} else {
		explore_check(caches_get(LAST));
	}
}

static const struct explore_twin chain_twins[] = {
	EXPLORE_TWIN("check, then hide", SPLIT, "entry_hide", "cas"),
	EXPLORE_TWIN("second look sees what the first saw", STALE,
		     "cache_index_next", "load"),
	{ .name = NULL },
};

/* ---- a walk, of entries that are not used for long ---- */

static void a_heavy_one(void)
{
	caches_open(4, false);
	caches_put_heavy(1, 0, 2);
}

static int check_info(void *ctx, const struct seg_cache_entry_info *info)
{
	(void)ctx;
	caches_check(info->value, info->key, info->weight);
	return 0;
}

static void walk_or_use_again(unsigned thread)
{
	if (thread == 0) {
		explore_check(!seg_cache_remove(cache, 1, NULL));
		caches_put(2, 1);
	} else {
		explore_check(!seg_cache_each(cache, check_info, NULL));
	}
}

static const struct explore_twin each_twins[] = {
	EXPLORE_TWIN("relaxed fill", RELAX, "entry_fill", "store_rel"),
	EXPLORE_TWIN("relaxed looks", RELAX, "visit", "load_acq"),
	EXPLORE_TWIN("relaxed begin", RELAX, "entry_begin", "store"),
	{ .name = NULL },
};

/* ---- remove of a pinned one, by which two read ---- */

static void pinned_twice(void)
{
	caches_open(2, false);
	caches_put_pinned(1, 0, &pin[0]);
	explore_check(!seg_cache_get(cache, 1, &pin[1]));
}

/* What left is told of as it was, though the entry is used again. */
static void unpin_or_remove(unsigned thread)
{
	if (thread < 2) {
		caches_unpin(&pin[thread]);
	} else {
		explore_check(!seg_cache_remove(cache, 1, NULL));
		caches_put_heavy(2, 1, 2);
	}
}

static void unpin_or_replace(unsigned thread)
{
	if (thread < 2) {
		caches_unpin(&pin[thread]);
	} else {
		caches_replace(1, 1);
		caches_put(2, 2);
	}
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
	EXPLORE_TWIN("not said that it is too much", SKIP, "exceeds", "store"),
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
	if (thread == 0) {
		caches_put(2, 1);
		explore_keeper_run();
	} else {
		caches_peek(thread);
	}
}

/* No entry is used again under a short read; scenario_cache_again.c has what a
 * look-up needs where it is. */
static const struct explore_twin peek_twins[] = {
	EXPLORE_TWIN_SWITCH("no grace period", explore_throw_grace_period),
	EXPLORE_TWIN("listener before unlink", SKIP, "cache_index_remove",
		     "store_release"),
	{ .name = NULL },
};

/* Again with the same key; it is never not there. */
static void one_of_two_in_for_short_reads(void)
{
	caches_open(2, true);
	caches_put(1, 0);
}

static void peek_or_replace(unsigned thread)
{
	if (thread == 0) {
		caches_replace(1, 1);
		caches_replace(1, 2);
		explore_keeper_run();
	} else {
		explore_check(caches_peek(1));
	}
}

static const struct explore_twin peek_replace_twins[] = {
	EXPLORE_TWIN_SWITCH("no grace period", explore_throw_grace_period),
	{ .name = NULL },
};

static void peek_or_take(unsigned thread)
{
	void *value;

	if (thread)
		caches_peek(1);
	else if (!seg_cache_take(cache, 1, &value))
		caches_free(value);
}

static const struct explore_twin peek_take_twins[] = {
	EXPLORE_TWIN_SWITCH("no grace period", explore_throw_grace_period),
	{ .name = NULL },
};

const struct explore_scenario explore_cache[] = {
	{ .name = "cache: get against eviction", .threads = 3,
	  .setup = one_in, .body = get_or_evict, .post = caches_close,
	  .twins = evict_twins },
	{ .name = "cache: get against use with the same key", .threads = 3,
	  .setup = one_in, .body = get_or_recycle, .post = caches_close,
	  .twins = recycle_twins },
	{ .name = "cache: get behind what is used again", .threads = 2,
	  .setup = a_chain, .body = get_or_use_first_again,
	  .post = caches_close, .twins = behind_twins },
	{ .name = "cache: short read behind what is used again", .threads = 2,
	  .setup = a_chain_for_short_reads, .body = peek_or_use_first_again,
	  .post = caches_close },
	{ .name = "cache: get against two takes", .threads = 3,
	  .setup = one_in, .body = get_or_take, .post = caches_close,
	  .twins = take_twins },
	{ .name = "cache: get against replace", .threads = 2,
	  .setup = one_of_two_in, .body = get_or_replace,
	  .post = caches_close, .twins = replace_twins },
	{ .name = "cache: get against replace in a chain", .threads = 2,
	  .setup = a_chain, .body = get_or_replace_last,
	  .post = caches_close, .twins = chain_twins },
	{ .name = "cache: walk against use again", .threads = 2,
	  .setup = a_heavy_one, .body = walk_or_use_again,
	  .post = caches_close, .twins = each_twins },
	{ .name = "cache: two unpin what is removed", .threads = 3,
	  .setup = pinned_twice, .body = unpin_or_remove,
	  .post = caches_close, .twins = remove_twins },
	{ .name = "cache: two unpin what is replaced", .threads = 3,
	  .setup = pinned_twice, .body = unpin_or_replace,
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
	{ .name = "cache: short read against replace", .threads = 2,
	  .setup = one_of_two_in_for_short_reads, .body = peek_or_replace,
	  .post = caches_close, .twins = peek_replace_twins },
	{ .name = "cache: short read against take", .threads = 2,
	  .setup = one_in_for_short_reads, .body = peek_or_take,
	  .post = caches_close, .twins = peek_take_twins },
	{ .name = NULL },
};
