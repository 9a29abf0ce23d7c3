/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Single-flight loads.  Who finds nothing puts an entry that is loading into
 * the index, pinned by itself, and calls the loader; others find and pin that
 * entry and sleep on it.  In the end the value is in it or an error, and either
 * way each of them holds a pin of its own.  Whoever removes or replaces the key
 * meanwhile hides the entry, so that what is loaded is not kept: it leaves with
 * the last of those pins.
 */
#include <errno.h>
#include <pthread.h>
#include <stddef.h>

#include "cache_leave.h"
#include "os.h"
#include "page.h"

enum { NS_PER_MS = 1000 * 1000 };

static uint64_t self(void)
{
	return (uint64_t)(uintptr_t)pthread_self();
}

/* ---- those who wait ---- */

static int sleep_until_loaded(struct cache_entry *e, int wait_ms)
{
	struct cache_record *r = entry_record(e);
	uint64_t until = wait_ms > 0 ?
		os_now_ns() + (uint64_t)wait_ms * NS_PER_MS : OS_FOREVER;

	/* acquire <- wake_waiters(): value or error */
	while (u32_load_acquire(&r->loading)) {
		uint64_t now = wait_ms > 0 ? os_now_ns() : 0;

		if (now >= until)
			return -ETIMEDOUT;
		os_futex_wait(&r->loading, 1, until == OS_FOREVER ?
						      OS_FOREVER : until - now);
	}
	/* relaxed: acquired above */
	return ptr_load_relaxed(&e->value) ? 0 : r->error;
}

/* For an entry that was pinned while it was loading. */
static int wait_for_load(struct seg_cache *c, struct cache_entry *e,
			 uint64_t word, int wait_ms, struct seg_pin *ret_pin)
{
	int ret;

	cache_count(c, COUNT_LOAD_WAITS);
	if (entry_record(e)->loader == self())
		ret = -EDEADLK;
	else if (wait_ms < 0)
		ret = -EAGAIN;
	else
		ret = sleep_until_loaded(e, wait_ms);
	if (ret)
		cache_unpin(c, e, entry_version(word));
	else
		cache_fill_pin(c, e, word, ret_pin);
	return ret;
}

/* ---- the one who loads ---- */

static void link_loading(struct seg_cache *c, struct cache_entry *e,
			 uint64_t key)
{
	cache_fill_entry(c, e, key, NULL, 0);
	entry_record(e)->loader = self();
	/* relaxed: see entry_begin() */
	u32_store_relaxed(&entry_record(e)->loading, 1);
	entry_begin(e, ENTRY_LOADING, 1);
	cache_index_insert(&c->index, e);
	u64_add_relaxed(&c->loading, 1); /* relaxed: counter */
}

/* One that can't be pinned can't be waited for. */
static int pins_left(const struct cache_entry *e)
{
	return entry_look(e) & ENTRY_FULL ? -EOVERFLOW : 0;
}

/* NULL: somebody was faster, or there is no memory (*ret_error). */
static struct cache_entry *begin_load(struct seg_cache *c, uint64_t key,
				      int *ret_error)
{
	struct farewell f;
	struct cache_entry *e = NULL;
	struct cache_entry *found;

	cache_lock(c, &f);
	found = cache_index_get(&c->index, key);
	*ret_error = found ? pins_left(found) : -ENOMEM;
	if (!found)
		e = slots_get(&c->slots);
	if (e)
		link_loading(c, e, key);
	cache_unlock(c, &f);
	return e;
}

static void wake_waiters(struct cache_entry *e)
{
	struct atomic_u32 *loading = &entry_record(e)->loading;

	/* release -> sleep_until_loaded() */
	u32_store_release(loading, 0);
	os_futex_wake_all(loading);
}

/* Under the gate: the value is in; it may not stay. */
static void publish_value(struct seg_cache *c, struct cache_entry *e,
			  void *value, uint64_t weight)
{
	bool hidden = entry_state(entry_look(e)) == ENTRY_HIDDEN;

	entry_weigh(e, weight);
	/* release -> seg_cache_peek() */
	ptr_store_release(&e->value, value);
	/* relaxed: under the gate */
	if (!hidden && weight > u64_load_relaxed(&c->max_weight)) {
		cache_hide_entry(c, e, SEG_CAUSE_EVICTED);
		hidden = true;
	}
	if (hidden)
		cache_count_inside(c, record_cause(entry_record(e)));
	cache_admit(c, e, NULL, true);
}

static void give_up(struct seg_cache *c, struct cache_entry *e, int error)
{
	entry_record(e)->error = error;
	record_set_cause(entry_record(e), 0);
	cache_count(c, COUNT_LOAD_FAILURES);
	if (entry_state(entry_look(e)) == ENTRY_LIVE)
		cache_hide_entry(c, e, 0);
}

static int end_load(struct seg_cache *c, struct cache_entry *e, void *value,
		    uint64_t weight, int error)
{
	struct farewell f;
	uint64_t word;

	cache_lock(c, &f);
	if (error)
		give_up(c, e, error);
	else
		publish_value(c, e, value, weight);
	word = entry_loaded(e);
	u64_sub_relaxed(&c->loading, 1); /* relaxed: counter */
	/* Before anything is said to a listener, which may wait for us. */
	wake_waiters(e);
	cache_unlock(c, &f);
	if (error)
		cache_unpin(c, e, entry_version(word));
	return error;
}

/* What the loader brought becomes the cache's. */
static int accept(struct seg_cache *c, void *value, uint64_t *weight)
{
	struct seg_page *page = value;

	if (!value || (c->pages && page->pool != c->pages))
		return -EINVAL;
	if (c->pages && !*weight) {
		*weight = seg_page_bytes(page);
		if (!*weight)
			return page_misuse(page);
	}
	if (!*weight)
		return -EINVAL;
	if (*weight > CACHE_WEIGHT_MOST || !cache_can_hold(c, *weight))
		return -E2BIG;
	if (c->pages && !page_move(page, PAGE_CALLER, PAGE_CACHE))
		return page_misuse(page);
	return 0;
}

static int run_load(struct seg_cache *c, struct cache_entry *e,
		    seg_cache_load_fn *load, void *ctx)
{
	void *value = NULL;
	uint64_t weight = 0;
	int before, ret;

	cache_count(c, COUNT_LOADS);
	/* Cancelled in between, it would leave others waiting. */
	pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &before);
	ret = load(ctx, entry_key(e), &value, &weight);
	if (ret > 0)
		ret = -EINVAL;
	if (!ret)
		ret = accept(c, value, &weight);
	ret = end_load(c, e, value, weight, ret);
	pthread_setcancelstate(before, &before);
	return ret;
}

static int load_or_retry(struct seg_cache *c, uint64_t key,
			 seg_cache_load_fn *load, void *ctx,
			 struct seg_pin *ret_pin)
{
	int ret;
	struct cache_entry *e = begin_load(c, key, &ret);

	if (!e)
		return ret;
	cache_count_get(c, false);
	ret = run_load(c, e, load, ctx);
	if (!ret)
		cache_fill_pin(c, e, entry_look(e), ret_pin);
	return ret;
}

int seg_cache_get_or_load(struct seg_cache *c, uint64_t key,
			  seg_cache_load_fn *load, void *ctx, int wait_ms,
			  struct seg_pin *ret_pin)
{
	struct seg_pin pin = { .cache = NULL };
	uint64_t word;
	int ret = 0;

	if (!c || !load || !ret_pin || wait_ms < SEG_NO_WAIT)
		return -EINVAL;
	if (cache_hit(c, key, ret_pin))
		return 0;
	while (!ret && !pin.cache) {
		struct cache_entry *e = cache_find_and_pin(c, key, &word);

		if (!e) {
			ret = load_or_retry(c, key, load, ctx, &pin);
		} else if (word & ENTRY_LOADING) {
			cache_count_get(c, false);
			ret = wait_for_load(c, e, word, wait_ms, &pin);
		} else {
			cache_mark(c, e);
			cache_count_get(c, true);
			cache_fill_pin(c, e, word, &pin);
		}
	}
	if (!ret)
		*ret_pin = pin;
	return ret;
}
