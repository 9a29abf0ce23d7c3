/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The ways to allocate.  Nearly all calls are served by the first lines of
 * seg_alloc(): from the thread's stash (stash.h).  Then come what the stash is
 * filled from (fill.h), the nodes (place.h), and the limit (limit.c).
 */
#include <errno.h>
#include <string.h>

#include "options.h"
#include "os.h"
#include "pool.h"

/* What an allocation asks for; deadline 0: never wait. */
struct request {
	size_t bytes;
	uint64_t deadline_ns;
	bool default_wait;
	bool easy;
	bool zeroed;
	enum seg_policy policy;	/* SEG_POLICY_DEFAULT: the pool's */
	int node;		/* of a policy that has one */
};

static void log_allocated(struct class_pool *cp, size_t bytes)
{
	struct log *log = &cp->allocator->log;

	if (log_wants(log, SEG_LOG_SEGMENT))
		log_event(log, SEG_LOG_SEGMENT,
			  "allocate() size=%zu, pool %d now has %llu segments "
			  "remaining", bytes, cp->class_index,
			  class_pool_free(cp));
}

/* Counted, so that the pool is not destroyed meanwhile. */
static struct taken take_slowly(struct seg_pool *p, struct class_pool *cp,
				const struct request *q,
				struct limit_want want,
				struct class_pool **ret_served)
{
	struct limit_report report;
	struct taken t;

	want.deadline_ns = q->deadline_ns;
	want.easy = q->easy;
	if (q->default_wait && p->wait_ns)
		want.deadline_ns = os_now_ns() + p->wait_ns;
	topology_check();
	u32_add_relaxed(&p->waiting, 1); /* relaxed: see has_owners() */
	t = limit_allocate(cp, &want, &report);
	*ret_served = report.cp;
	if (!t.segment)
		pool_refused(p, cp, q->bytes, &report);
	/* seq_cst: release -> has_owners() */
	u32_sub_seq_cst(&p->waiting, 1);
	return t;
}

/* From the thread's stash, or what it is filled from. */
static inline struct taken take_near(struct class_pool *cp, int class_index)
{
	struct stash *st = stash_of(&cp->allocator->stashes);
	struct taken t = { .segment = NULL };

	if (st)
		t = stash_take(st, cp, class_index);
	if (!t.segment)
		return fill_take(cp);
	taken_show(&t, cp->slice_bytes);
	return t;
}

/* There is one node. */
static struct taken take(struct seg_pool *p, const struct request *q,
			 struct class_pool **ret_cp)
{
	int class_index = class_of(q->bytes);
	struct taken t;

	*ret_cp = &p->node.pools[class_index];
	t = take_near(*ret_cp, class_index);
	if (__builtin_expect(!t.segment, 0))
		t = take_slowly(p, *ret_cp, q, (struct limit_want){ 0 },
				ret_cp);
	return t;
}

/* A strict policy wants a node that the process may not use any more. */
static struct taken no_node(struct seg_pool *p, const struct request *q,
			    const struct place *place)
{
	struct limit_report report = { .node_full = true, .easy = q->easy };
	struct node *node = pool_node(p, place->wanted);

	pool_refused(p, &(node ? node : &p->node)->pools[class_of(q->bytes)],
		     q->bytes, &report);
	return (struct taken){ .segment = NULL };
}

/* A node that is not to be had may have come back since the last look. */
static bool choose(struct seg_pool *p, const struct request *q,
		   struct place *ret_place)
{
	bool own = q->policy == SEG_POLICY_DEFAULT;
	enum seg_policy policy = own ? p->options.policy : q->policy;
	int node = own ? p->options.node : q->node;

	if (place_choose(p, class_of(q->bytes), policy, node, ret_place))
		return true;
	topology_look();
	return place_choose(p, class_of(q->bytes), policy, node, ret_place);
}

/* NULL: there is no memory even for what a node is here. */
static struct class_pool *first_pool(const struct place *place)
{
	struct class_pool *cp = NULL;
	bool more = true;

	for (unsigned k = 0; !cp && more; k++)
		cp = place_pool(place, k, &more);
	return cp;
}

/* What was taken from the first node lies where it shall; else the others. */
static struct taken settle(struct seg_pool *p, const struct request *q,
			   const struct place *place, struct taken t,
			   struct class_pool **ret_cp)
{
	if (!t.segment || place_settle(*ret_cp, &t, t.fresh &&
				       place_rests(place, *ret_cp)) != PLACED)
		t = take_slowly(p, *ret_cp, q,
				(struct limit_want){ .place = place }, ret_cp);
	if (t.segment)
		place_count_take(place, *ret_cp);
	return t;
}

/* There are many: a slice of the wanted one, or all that place.h says. */
static struct taken take_placed(struct seg_pool *p, const struct request *q,
				struct class_pool **ret_cp)
{
	struct place place;

	if (!choose(p, q, &place))
		return no_node(p, q, &place);
	*ret_cp = first_pool(&place);
	if (!*ret_cp)
		return no_node(p, q, &place);
	return settle(p, q, &place,
		      take_near(*ret_cp, (*ret_cp)->class_index), ret_cp);
}

/* Hands out what was found, if anything was. */
static void *finish(const struct request *q, struct class_pool *cp,
		    struct taken t)
{
	if (!t.segment) {
		errno = ENOMEM;
		return NULL;
	}
	if (q->zeroed && !t.fresh)
		memset(t.segment, 0, cp->slice_bytes);
	log_allocated(cp, q->bytes);
	return t.segment;
}

static void *allocate(struct seg_pool *p, struct request q)
{
	struct class_pool *cp = NULL;
	struct taken t;

	if (!p || q.bytes == 0 || q.bytes > SEG_MAX_BYTES) {
		errno = EINVAL;
		return NULL;
	}
	if (__builtin_expect(topology_has_many(), 0)) {
		stashes_meet_nodes(&p->allocator.stashes);
		t = take_placed(p, &q, &cp);
	} else {
		t = take(p, &q, &cp);
	}
	return finish(&q, cp, t);
}

static __attribute__((noinline)) void *allocate_default(struct seg_pool *p,
							size_t bytes)
{
	return allocate(p, (struct request){ .bytes = bytes,
					     .default_wait = true });
}

/* It was never handed out before, or was elsewhere meanwhile. */
static __attribute__((noinline)) void *
settle_near(struct seg_pool *p, struct class_pool *cp, struct taken t,
	    size_t bytes)
{
	struct request q = { .bytes = bytes, .default_wait = true };
	struct place place = place_of_near(p, cp);

	t = settle(p, &q, &place, t, &cp);
	return finish(&q, cp, t);
}

/* Among several nodes the stash is mostly filled from the thread's own. */
static void *allocate_near(struct seg_pool *p, struct stash *st, size_t bytes)
{
	struct class_pool *cp = place_near(p, class_of(bytes));
	struct taken t = { .segment = NULL };

	if (cp)
		t = stash_take(st, cp, class_of(bytes));
	if (!t.segment)
		return allocate_default(p, bytes);
	taken_show(&t, cp->slice_bytes);
	return __builtin_expect(place_is_sure(cp, t.fresh), 1) ?
		       t.segment : settle_near(p, cp, t, bytes);
}

/* There are several nodes, or the thread has no stash. */
static __attribute__((noinline)) void *allocate_far(struct seg_pool *p,
						    size_t bytes)
{
	struct stash *st = stash_of(&p->allocator.stashes);

	return st && topology_has_many() ? allocate_near(p, st, bytes) :
					   allocate_default(p, bytes);
}

/* What nearly all calls do: take from the thread's stash. */
void *seg_alloc(struct seg_pool *p, size_t bytes)
{
	void *segment;
	struct stash *st;

	if (__builtin_expect(!p || bytes - 1 >= SEG_MAX_BYTES, 0))
		return allocate_default(p, bytes);
	st = stash_of_one_node(&p->allocator.stashes);
	if (__builtin_expect(!st, 0))
		return allocate_far(p, bytes);
	segment = stash_take(st, NULL, class_of(bytes)).segment;
	if (__builtin_expect(!segment, 0))
		return allocate_default(p, bytes);
	poison_handed_out(segment, (size_t)SEG_MIN_BYTES << class_of(bytes));
	return segment;
}

void *seg_alloc_zeroed(struct seg_pool *p, size_t bytes)
{
	return allocate(p, (struct request){ .bytes = bytes,
					     .default_wait = true,
					     .zeroed = true });
}

void *seg_alloc_on(struct seg_pool *p, size_t bytes, int node)
{
	if (!place_is_valid(SEG_POLICY_NODE, node)) {
		errno = EINVAL;
		return NULL;
	}
	return allocate(p, (struct request){ .bytes = bytes,
					     .default_wait = true,
					     .policy = SEG_POLICY_NODE,
					     .node = node });
}

/* Times before 0 are 0, those of the far future the last there is. */
static uint64_t ns_of(const struct timespec *time)
{
	if (time->tv_sec < 0)
		return 0;
	if ((uint64_t)time->tv_sec >= UINT64_MAX / 1000000000u)
		return UINT64_MAX;
	return (uint64_t)time->tv_sec * 1000000000u + (uint64_t)time->tv_nsec;
}

static bool is_time(const struct timespec *time)
{
	return time->tv_nsec >= 0 && time->tv_nsec < 1000000000;
}

void *seg_alloc_until(struct seg_pool *p, size_t bytes,
		      const struct timespec *deadline)
{
	struct request q = { .bytes = bytes };

	if (!deadline || !is_time(deadline)) {
		errno = EINVAL;
		return NULL;
	}
	q.deadline_ns = ns_of(deadline);
	return allocate(p, q);
}

void *seg_alloc_with(struct seg_pool *p, size_t bytes,
		     const struct seg_alloc_options *options)
{
	struct seg_alloc_options o = { 0 };

	if (!options_get(&o, sizeof(o), options, sizeof(o)) ||
	    (unsigned)o.effort > SEG_EFFORT_EASY || o.zeroed > 1 ||
	    !place_is_valid(o.policy, o.node) ||
	    (o.deadline && !is_time(o.deadline))) {
		errno = EINVAL;
		return NULL;
	}
	return allocate(p, (struct request){
		.bytes = bytes,
		.deadline_ns = o.deadline ? ns_of(o.deadline) : 0,
		.default_wait = !o.deadline,
		.easy = o.effort == SEG_EFFORT_EASY,
		.zeroed = o.zeroed != 0,
		.policy = o.policy,
		.node = o.node,
	});
}
