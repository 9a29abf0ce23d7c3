/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What the tests of caches share: a cache whose listener writes down what it is
 * given, and checks at the end that each value that was put has left once.
 * Values of such a cache are numbers, never looked into.
 */
#ifndef SEG_TESTS_CACHES_H
#define SEG_TESTS_CACHES_H

#include "pools.h"

enum { HEARD_MOST = 2048 };

struct heard_call {
	uint64_t key;
	void *value;
	uint64_t weight;
	enum seg_cause cause;
	pthread_t thread;
};

struct box {
	struct seg_cache *cache;
	pthread_mutex_t lock;
	uint64_t heard;			/* calls of the listener, kept or not */
	struct heard_call call[HEARD_MOST];
	struct recorder lines;
	/* A test's own part of the listener; it may use the cache. */
	void (*also)(struct box *box, const struct heard_call *call);
	void *also_ctx;
};

static inline void *number(uint64_t n)
{
	return (void *)(uintptr_t)((n + 1) * 16);
}

/* A seg_cache_listener_fn; ctx is a box. */
static inline void box_listen(void *ctx, uint64_t key, void *value,
			      uint64_t weight, enum seg_cause cause)
{
	struct box *box = ctx;
	struct heard_call call = { key, value, weight, cause, pthread_self() };

	pthread_mutex_lock(&box->lock);
	if (box->heard < HEARD_MOST)
		box->call[box->heard] = call;
	box->heard++;
	pthread_mutex_unlock(&box->lock);
	if (box->also)
		box->also(box, &call);
}

static inline uint64_t box_heard(struct box *box)
{
	uint64_t heard;

	pthread_mutex_lock(&box->lock);
	heard = box->heard;
	pthread_mutex_unlock(&box->lock);
	return heard;
}

static inline unsigned box_times(struct box *box, const void *value)
{
	unsigned times = 0;

	pthread_mutex_lock(&box->lock);
	for (uint64_t i = 0; i < box->heard && i < HEARD_MOST; i++)
		times += box->call[i].value == value;
	pthread_mutex_unlock(&box->lock);
	return times;
}

static inline struct seg_cache_stats cache_stats(struct seg_cache *c)
{
	struct seg_cache_stats s = { .size = sizeof(s) };

	require(seg_cache_stats(c, &s) == 0);
	return s;
}

/* Sizes, listener and log are filled in. */
static inline struct box *box_begin_with(struct seg_cache_options o)
{
	struct box *box = calloc(1, sizeof(*box));

	require(box);
	pthread_mutex_init(&box->lock, NULL);
	pthread_mutex_init(&box->lines.lock, NULL);
	o.size = sizeof(o);
	o.listener = box_listen;
	o.listener_ctx = box;
	o.log = recorder_log;
	o.log_ctx = &box->lines;
	assert_int_equal(seg_cache_create(&o, &box->cache), 0);
	assert_non_null(box->cache);
	return box;
}

static inline struct box *box_begin(uint64_t max_weight)
{
	return box_begin_with((struct seg_cache_options){
		.max_weight = max_weight });
}

static inline uint64_t all_that_left(const struct seg_cache_stats *s)
{
	return s->evictions_total + s->reclaims_total + s->shrinks_total +
	       s->replacements_total + s->removals_total;
}

/* An unpin may have left it to the library's thread to evict. */
static inline void box_settle(struct box *box)
{
	struct seg_cache_stats s;

	wait_until((s = cache_stats(box->cache), s.weight <= s.max_weight));
	wait_until((s = cache_stats(box->cache), s.pinned_weight ||
		    s.deferred_weight || s.released_total ==
					 all_that_left(&s)));
}

/* Nobody is in a call. */
static inline void box_check(struct box *box)
{
	struct seg_cache_stats s;

	box_settle(box);
	s = cache_stats(box->cache);
	/* If values waited just now, they may be on their way out. */
	if (s.deferred_weight == 0)
		s = cache_stats(box->cache);
	assert_true(seg_cache_is_valid(box->cache));
	assert_int_equal(s.entries, s.inserts_total - all_that_left(&s) -
				    s.takes_total);
	assert_true(s.weight <= s.max_weight);
	assert_true(s.released_total <= box_heard(box));
	if (s.deferred_weight == 0)
		assert_int_equal(s.released_total, box_heard(box));
	if (s.pinned_weight == 0 && s.deferred_weight == 0)
		assert_int_equal(s.released_total, all_that_left(&s));
}

/* With nothing pinned: what came in and was not taken was heard of, once. */
static inline void box_end(struct box *box)
{
	struct seg_cache_stats s;

	box_check(box);
	s = cache_stats(box->cache);
	assert_int_equal(s.pinned_weight, 0);
	assert_int_equal(seg_cache_destroy(box->cache), 0);
	assert_int_equal(box->heard, s.inserts_total - s.takes_total);
	pthread_mutex_destroy(&box->lock);
	pthread_mutex_destroy(&box->lines.lock);
	free(box);
}

static inline void put(struct seg_cache *c, uint64_t key, void *value,
		       uint64_t weight)
{
	require(seg_cache_put(c, key, value, weight, NULL) == 0);
}

static inline struct seg_pin put_pinned(struct seg_cache *c, uint64_t key,
					void *value, uint64_t weight)
{
	struct seg_pin pin = { .cache = NULL };

	require(seg_cache_put(c, key, value, weight, &pin) == 0);
	return pin;
}

static inline struct seg_pin get(struct seg_cache *c, uint64_t key)
{
	struct seg_pin pin = { .cache = NULL };

	require(seg_cache_get(c, key, &pin) == 0);
	return pin;
}

/* Whether it is there; it leaves a mark. */
static inline bool has(struct seg_cache *c, uint64_t key)
{
	struct seg_pin pin;
	int ret = seg_cache_get(c, key, &pin);

	require(ret == 0 || ret == -ENOENT);
	if (!ret)
		require(seg_unpin(&pin) == 0);
	return ret == 0;
}

static inline void unpin(struct seg_pin *pin)
{
	require(seg_unpin(pin) == 0);
}

static inline void assert_weights(struct box *box, uint64_t weight,
				  uint64_t pinned)
{
	struct seg_cache_stats s = cache_stats(box->cache);

	assert_int_equal(s.weight, weight);
	assert_int_equal(s.pinned_weight, pinned);
}

#endif
