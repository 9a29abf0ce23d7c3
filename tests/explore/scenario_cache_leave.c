/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The returned list: what was parked or hidden comes back, or ends, by the
 * last unpin, and by whoever takes the list; no entry is used again while it
 * is on the list or about to be.
 */
#include "caches.h"

#include <errno.h>

static struct seg_pin pin[2];

/* ---- parked, unpinned, drained ---- */

/* The older one is pinned: who evicts meets it first. */
static void older_is_pinned(void)
{
	caches_open(4, false);
	caches_put_pinned(1, 0, &pin[0]);
	caches_put(2, 1);
}

static void unpin_or_evict(unsigned thread)
{
	if (thread == 0)
		explore_check(!seg_cache_shrink(cache, 0, NULL));
	else if (thread == 1)
		caches_unpin(&pin[0]);
	else
		caches_get(1);
}

static const struct explore_twin park_twins[] = {
	EXPLORE_TWIN("check, then park", SPLIT, "entry_park", "cas"),
	EXPLORE_TWIN("blind park", BLIND, "entry_park", "cas"),
	EXPLORE_TWIN("list not emptied", SKIP, "drain", "exchange"),
	{ .name = NULL },
};

/* ---- two come back while one takes the list ---- */

static void park(void)
{
	explore_check(!seg_cache_shrink(cache, 0, NULL));
}

static void two_are_parked(void)
{
	caches_open(4, false);
	caches_put_pinned(1, 0, &pin[0]);
	caches_put_pinned(2, 1, &pin[1]);
	caches_put(3, 2);
	park();
}

static void unpin_or_drain(unsigned thread)
{
	if (thread < 2)
		caches_unpin(&pin[thread]);
	else
		explore_check(seg_cache_remove(cache, 9, NULL) == -ENOENT);
}

static const struct explore_twin drain_twins[] = {
	EXPLORE_TWIN("blind push", BLIND, "cache_push_returned", "cas"),
	EXPLORE_TWIN("push left out", SKIP, "cache_push_returned", "cas"),
	EXPLORE_TWIN("drained in two steps", SPLIT, "drain", "exchange"),
	{ .name = NULL },
};

/* ---- removed while it is about to be on the list, then used again ---- */

static void one_is_parked(void)
{
	caches_open(4, false);
	caches_put_pinned(1, 0, &pin[0]);
	caches_put(2, 1);
	park();
}

/* The puts may get its entry. */
static void unpin_or_recycle(unsigned thread)
{
	if (thread == 0) {
		caches_unpin(&pin[0]);
		return;
	}
	explore_check(!seg_cache_remove(cache, 1, NULL));
	caches_put_heavy(3, 2, 2);
	caches_put(4, 3);
}

static const struct explore_twin recycle_twins[] = {
	EXPLORE_TWIN_KEEP("not marked as returning", "entry_unpin", "cas",
			  ENTRY_RETURNING),
	EXPLORE_TWIN("push left out", SKIP, "cache_push_returned", "cas"),
	{ .name = NULL },
};

/* ---- taken, got again and removed while it comes back ---- */

static void unpin_or_take(unsigned thread)
{
	void *value;

	if (thread == 0) {
		caches_unpin(&pin[0]);
	} else if (thread == 1) {
		caches_get(1);
	} else if (!seg_cache_take(cache, 1, &value)) {
		caches_free(value);
		caches_put(4, 3);
	}
}

static const struct explore_twin take_twins[] = {
	EXPLORE_TWIN("check, then kill", SPLIT, "entry_kill", "cas"),
	EXPLORE_TWIN_KEEP("not marked as returning", "entry_unpin", "cas",
			  ENTRY_RETURNING),
	{ .name = NULL },
};

/* ---- parked again while it comes back ---- */

/* A younger one is in, for whose weight the first is met and parked. */
static void parked_and_one_in(void)
{
	one_is_parked();
	caches_put(3, 2);
}

static void unpin_or_park_again(unsigned thread)
{
	if (thread == 0)
		park();
	else if (thread == 1)
		caches_unpin(&pin[0]);
	else
		caches_get(1);
}

static const struct explore_twin again_twins[] = {
	EXPLORE_TWIN("blind return", BLIND, "entry_returned", "cas"),
	{ .name = NULL },
};

/* ---- cleared while it is pinned, and the entry used again ---- */

static void one_is_pinned(void)
{
	caches_open(2, false);
	caches_put_pinned(1, 0, &pin[0]);
}

static void unpin_or_clear(unsigned thread)
{
	if (thread == 0) {
		caches_unpin(&pin[0]);
		return;
	}
	if (thread == 1)
		explore_check(!seg_cache_clear(cache));
	else
		caches_put(2, 1);
}

static const struct explore_twin clear_twins[] = {
	EXPLORE_TWIN("blind unpin", BLIND, "entry_unpin_plain", "cas"),
	EXPLORE_TWIN("check, then hide", SPLIT, "entry_hide", "cas"),
	{ .name = NULL },
};

/* ---- with short reads the value waits in the record ---- */

static void one_is_parked_for_short_reads(void)
{
	caches_open(4, true);
	caches_put_pinned(1, 0, &pin[0]);
	caches_put(2, 1);
	park();
	keeper_flush();
}

static void unpin_or_remove_or_peek(unsigned thread)
{
	if (thread == 0) {
		caches_unpin(&pin[0]);
	} else if (thread == 1) {
		explore_check(!seg_cache_remove(cache, 1, NULL));
		caches_put(4, 3);
		explore_keeper_run();
	} else {
		caches_peek(1);
	}
}

static const struct explore_twin record_twins[] = {
	EXPLORE_TWIN_SWITCH("no grace period", explore_throw_grace_period),
	EXPLORE_TWIN_KEEP("not marked as returning", "entry_unpin", "cas",
			  ENTRY_RETURNING),
	EXPLORE_TWIN("push left out", SKIP, "cache_push_returned", "cas"),
	EXPLORE_TWIN("blind hide", BLIND, "entry_hide", "cas"),
	{ .name = NULL },
};

/* Two batches: the second waits until the first has arrived. */
static void two_removed(unsigned thread)
{
	if (thread == 0) {
		explore_check(!seg_cache_remove(cache, 1, NULL));
		explore_check(!seg_cache_remove(cache, 2, NULL));
		caches_put(4, 3);
	} else if (thread == 1) {
		explore_keeper_run();
		explore_keeper_run();
	} else {
		caches_peek(2);
	}
}

static const struct explore_twin batch_twins[] = {
	EXPLORE_TWIN_SWITCH("no grace period", explore_throw_grace_period),
	{ .name = NULL },
};

/* ---- destroyed while the keeper is at work for it ---- */

static void two_for_short_reads(void)
{
	caches_open(4, true);
	caches_put(1, 0);
	caches_put(2, 1);
}

static void destroy_or_keep(unsigned thread)
{
	if (thread == 0) {
		explore_check(!seg_cache_remove(cache, 1, NULL));
		explore_check(!seg_cache_destroy(cache));
		explore_finish();
	} else {
		explore_keeper(1);
	}
}

const struct explore_scenario explore_cache_leave[] = {
	{ .name = "leave: park against unpin", .threads = 3,
	  .setup = older_is_pinned, .body = unpin_or_evict,
	  .post = caches_close, .twins = park_twins },
	{ .name = "leave: two come back, one drains", .threads = 3,
	  .setup = two_are_parked, .body = unpin_or_drain,
	  .post = caches_close, .twins = drain_twins },
	{ .name = "leave: recycled while it comes back", .threads = 2,
	  .setup = one_is_parked, .body = unpin_or_recycle,
	  .post = caches_close, .twins = recycle_twins },
	{ .name = "leave: taken while it comes back", .threads = 3,
	  .setup = one_is_parked, .body = unpin_or_take,
	  .post = caches_close, .twins = take_twins },
	{ .name = "leave: parked again while it comes back", .threads = 3,
	  .setup = parked_and_one_in, .body = unpin_or_park_again,
	  .post = caches_close, .twins = again_twins },
	{ .name = "leave: clear against put and unpin", .threads = 3,
	  .setup = one_is_pinned, .body = unpin_or_clear,
	  .post = caches_close, .twins = clear_twins },
	{ .name = "leave: short read of what comes back", .threads = 3,
	  .setup = one_is_parked_for_short_reads,
	  .body = unpin_or_remove_or_peek, .post = caches_close,
	  .twins = record_twins },
	{ .name = "leave: two batches against a short read", .threads = 3,
	  .setup = two_for_short_reads, .body = two_removed,
	  .post = caches_close, .twins = batch_twins },
	{ .name = "leave: destroy against the keeper", .threads = 2,
	  .setup = two_for_short_reads, .body = destroy_or_keep,
	  .post = caches_all_left },
	{ .name = NULL },
};
