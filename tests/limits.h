/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What the tests of the rules at the limit share: a reclaimer that holds all
 * memory of a budget, threads that wait, and two pools, of which one holds what
 * the other waits for.
 */
#ifndef SEG_TESTS_LIMITS_H
#define SEG_TESTS_LIMITS_H

#include "pools.h"

enum { SMALL = 4096, MOST = 64 };

/* What a reclaimer of the application may be like. */
struct holder {
	struct seg_pool *pool;
	void *held[MOST];
	unsigned count;		/* of those */
	unsigned calls, depth, deepest;
	uint64_t asked_for;	/* the most */
	size_t alloc_inside;	/* bytes; 0: none */
	unsigned served_inside;
	bool keeps, lies;	/* gives nothing; says that it gave */
	struct holder ***order;	/* where who is called for the first time
				   writes itself down */
};

static inline void alloc_inside(struct holder *h)
{
	void *segment = seg_alloc(h->pool, h->alloc_inside);

	h->served_inside += segment != NULL;
	require(!segment || seg_release(h->pool, segment) == 0);
}

static inline void take_again(struct holder *h)
{
	while (h->count < MOST) {
		h->held[h->count] = seg_alloc(h->pool, SMALL);
		require(h->held[h->count++]);
	}
}

static inline uint64_t give_back(struct holder *h, uint64_t bytes)
{
	uint64_t given = 0;

	while (!h->keeps && h->count && given < bytes) {
		require(!seg_release(h->pool, h->held[--h->count]));
		given += SMALL;
	}
	return given;
}

static inline uint64_t reclaim_held(void *ctx, uint64_t bytes)
{
	struct holder *h = ctx;
	uint64_t given;

	h->calls++;
	h->asked_for = bytes > h->asked_for ? bytes : h->asked_for;
	h->deepest = ++h->depth > h->deepest ? h->depth : h->deepest;
	if (h->order && h->calls == 1)
		*(*h->order)++ = h;
	given = give_back(h, bytes);
	if (h->alloc_inside)
		alloc_inside(h);
	if (h->lies)
		take_again(h);
	h->depth--;
	return h->lies ? bytes : given;
}

static inline int add(struct seg_budget *b, struct holder *h, int64_t priority)
{
	struct seg_reclaimer_options o = {
		.size = sizeof(o), .fn = reclaim_held, .ctx = h,
		.priority = priority, .name = "holder",
	};

	return seg_budget_add_reclaimer(b, &o);
}

static inline int take_out(struct seg_budget *b, struct holder *h)
{
	return seg_budget_remove_reclaimer(b, reclaim_held, h);
}

/* A budget that the holder has filled. */
struct scene {
	struct seg_budget *budget;
	struct seg_pool *pool;
	struct holder h;
};

static inline void scene_begin(struct scene *s, int wait_ms)
{
	*s = (struct scene){ .budget = new_budget(MOST * SMALL) };
	s->pool = make_pool_with((struct seg_pool_options){
		.budget = s->budget, .wait_ms = wait_ms,
		.decay_ms = 600000 });
	s->h.pool = s->pool;
	while (s->h.count < MOST)
		s->h.held[s->h.count++] = alloc_patiently(s->pool, SMALL);
	assert_int_equal(figures(s->pool, 0).active, MOST);
	assert_int_equal(add(s->budget, &s->h, 0), 0);
}

static inline void scene_end(struct scene *s)
{
	assert_int_equal(take_out(s->budget, &s->h), 0);
	while (s->h.count)
		assert_int_equal(seg_release(s->pool,
					     s->h.held[--s->h.count]), 0);
	end_both(s->pool, s->budget);
}

struct waiter {
	struct seg_pool *pool;
	size_t bytes;
	void *segment;
	pthread_t thread;
};

static inline void *waiter_main(void *arg)
{
	struct waiter *w = arg;

	w->segment = alloc_patiently(w->pool, w->bytes);
	return NULL;
}

static inline void waiter_start(struct waiter *w, struct seg_pool *pool,
				size_t bytes)
{
	w->pool = pool;
	w->bytes = bytes;
	require(!pthread_create(&w->thread, NULL, waiter_main, w));
}

static inline void waiter_is_served(struct waiter *w)
{
	require(!pthread_join(w->thread, NULL));
	assert_non_null(w->segment);
	assert_int_equal(seg_release(w->pool, w->segment), 0);
}

/* Two pools of one budget of two segments: the one holds, the other waits. */
struct pair {
	struct seg_budget *budget;
	struct seg_pool *holds, *waits;
	void *held[2];
	struct events events;
};

static inline void pair_begin(struct pair *p)
{
	*p = (struct pair){ .budget = new_budget(2 * SEG_MAX_BYTES),
			    .events = EVENTS_INIT };
	p->holds = make_pool(p->budget);
	p->waits = make_pool_events(p->budget, &p->events, SEG_LOG_ERROR);
	for (int i = 0; i < 2; i++)
		p->held[i] = seg_alloc(p->holds, SEG_MAX_BYTES);
	assert_non_null(p->held[1]);
}

static inline void pair_end(struct pair *p)
{
	end_pool(p->waits);
	end_both(p->holds, p->budget);
}

#endif
