/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* See pool.h. */
#include "pool.h"

#include <errno.h>
#include <string.h>

#include "assert.h"
#include "conf.h"
#include "options.h"
#include "os.h"
#include "rcu.h"

enum { DEFAULT_DECAY_MS = 1000, DEFAULT_WAIT_MS = 100 };

static const uint64_t ns_per_ms = 1000000;

static bool region_bytes_are_valid(uint64_t bytes)
{
	return bytes >= SEG_MIN_BYTES && bytes <= NODE_REGION_BYTES &&
	       (bytes & (bytes - 1)) == 0;
}

static void set_defaults(struct seg_pool_options *o)
{
	if (!o->region_bytes)
		o->region_bytes = NODE_REGION_BYTES;
	if (!o->decay_ms)
		o->decay_ms = DEFAULT_DECAY_MS;
	if (!o->wait_ms)
		o->wait_ms = DEFAULT_WAIT_MS;
	if (!o->log_level)
		o->log_level = SEG_LOG_REGION;
	if (!o->policy)
		o->policy = SEG_POLICY_LOCAL;
	if (!o->huge_pages)
		o->huge_pages = SEG_HUGE_PAGES_ASK;
	if (!o->ahead)
		o->ahead = SEG_AHEAD_NONE;
}

static struct log log_of(const struct seg_pool_options *o)
{
	return (struct log){
		.fn = o->log,
		.ctx = o->log_ctx,
		.level = o->log_level ? o->log_level : SEG_LOG_REGION,
	};
}

/* The caller's options, then SEG_CONF, then defaults; or what is wrong. */
static int options_complete(const struct seg_pool_options *theirs,
			    struct seg_pool_options *o)
{
	struct log log;

	if (!options_get(o, sizeof(*o), theirs,
			 offsetof(struct seg_pool_options, policy)) ||
	    !o->budget || !publish_name_is_valid(o->name) || o->publish > 1 ||
	    o->no_thread > 1 ||
	    o->wait_ms < SEG_NO_WAIT || o->tail_bytes > SEG_MIN_BYTES ||
	    (int)o->log_level < 0 || o->log_level > SEG_LOG_SEGMENT ||
	    (unsigned)o->huge_pages > SEG_HUGE_PAGES_NEVER ||
	    (unsigned)o->ahead > SEG_AHEAD_BACK)
		return -EINVAL;
	log = log_of(o);
	conf_apply(conf_text(), o, &log);
	set_defaults(o);
	topology_check();
	if (!place_is_valid(o->policy, o->node))
		return -EINVAL;
	return region_bytes_are_valid(o->region_bytes) ? 0 : -EINVAL;
}

static struct seg_pool *pool_of_member(struct budget_member *member)
{
	return (struct seg_pool *)((char *)member -
				   offsetof(struct seg_pool, member));
}

/* The nodes with budgets of their own are reached by those. */
static struct node *next_member(struct seg_pool *p, struct node *after)
{
	do {
		after = pool_next_node(p, after);
	} while (after && after->owns_budget);
	return after;
}

typedef uint64_t give_fn(struct node *node, uint64_t bytes);

static uint64_t give_up(struct seg_pool *p, uint64_t bytes, give_fn *give)
{
	uint64_t given = 0;

	gather_all(&p->allocator, false);
	for (struct node *n = NULL; (n = next_member(p, n)) && given < bytes;)
		given += give(n, bytes - given);
	return given;
}

/* Also by the keeper, for a budget that follows the system. */
static uint64_t give_up_for(struct budget_member *member, uint64_t bytes,
			    give_fn *give)
{
	struct seg_pool *p = pool_of_member(member);
	uint64_t given;

	if (!keeper_at_work())
		return give_up(p, bytes, give);
	moves_begin(&p->allocator.moves);
	given = give_up(p, bytes, give);
	moves_end(&p->allocator.moves);
	return given;
}

static uint64_t pool_shed(struct budget_member *member, uint64_t bytes)
{
	return give_up_for(member, bytes, node_shed);
}

static uint64_t pool_decommit(struct budget_member *member, uint64_t bytes)
{
	return give_up_for(member, bytes, node_decommit);
}

static void pool_report(struct budget_member *member, struct seg_holder *holder)
{
	struct seg_pool *p = pool_of_member(member);

	holder->id = (uint64_t)(uintptr_t)p;
	for (struct node *n = NULL; (n = next_member(p, n)) != NULL;)
		node_report(n, holder);
}

/*
 * Looks every quarter of decay_ms, retires what was idle for half of it: with
 * a look to notice and one to act, that is within decay_ms of the last use.
 */
static uint64_t pool_duty(struct keeper_duty *duty, uint64_t now_ns)
{
	struct seg_pool *p = (void *)((char *)duty -
				      offsetof(struct seg_pool, duty));
	uint64_t decay_ns = p->options.decay_ms * ns_per_ms;
	uint64_t next = OS_FOREVER, refresh;

	if (topology_has_many()) {
		topology_check();
		stashes_meet_nodes(&p->allocator.stashes);
	}
	if (now_ns - p->gathered_ns >= decay_ns / 4) {
		p->gathered_ns = now_ns;
		gather_idle(&p->allocator);
	}
	for (struct node *n = NULL; (n = pool_next_node(p, n)) != NULL;) {
		if (node_decay(n, now_ns, decay_ns / 2) && next)
			next = decay_ns / 4;
		if (p->options.ahead > SEG_AHEAD_NONE &&
		    node_open_ahead(n, now_ns))
			next = 0;
	}
	refresh = p->options.publish ? publish_refresh(now_ns) : next;
	return refresh < next ? refresh : next;
}

/* The threads that waited, mapped or wrote down a refusal are not there. */
static void pool_forked(struct keeper_duty *duty)
{
	struct seg_pool *p = (void *)((char *)duty -
				      offsetof(struct seg_pool, duty));

	u32_store_relaxed(&p->waiting, 0); /* relaxed: nobody else is there */
	for (struct node *n = NULL; (n = pool_next_node(p, n)) != NULL;)
		for (int c = 0; c < SEG_CLASSES; c++)
			class_pool_end_open(&n->pools[c]);
	gather_forked(&p->allocator);
	pool_refusal_forked(p);
	topology_forked();
	if (p->options.publish)
		publish_forked();
}

static void pool_init(struct seg_pool *p, const struct seg_pool_options *o)
{
	p->options = *o;
	p->wait_ns = o->wait_ms > 0 ? (uint64_t)o->wait_ms * ns_per_ms : 0;
	p->allocator.budget = o->budget;
	p->allocator.log = log_of(o);
	p->allocator.tail_bytes = o->tail_bytes;
	p->allocator.huge_pages = o->huge_pages;
	p->allocator.ahead = o->ahead;
	stashes_init(&p->allocator.stashes, &p->allocator, o->tail_bytes);
	p->waiters = &budget_root(o->budget)->waiters;
	p->member.shed = pool_shed;
	p->member.decommit = pool_decommit;
	p->member.report = pool_report;
	p->gathered_ns = os_now_ns();	/* there is nothing yet */
	p->duty.run = pool_duty;
	p->duty.no_thread = o->no_thread;
	p->duty.forked = pool_forked;
	p->published.kind = PUBLISHED_POOL;
	p->published.bytes = (1 + SEG_CLASSES) * sizeof(struct seg_pool_stats);
	p->published.fill = pool_publish;
	p->published.budget = &o->budget->published;
	publish_set_name(&p->published, o->name, "Pool");
	p->pages.object_bytes = PAGE_OBJECT_BYTES;
	p->pages.base_bits = 8;
}

/* How others reach the pool. */
static void join(struct seg_pool *p)
{
	publish_add(&p->published);
	budget_join(p->allocator.budget, &p->member);
}

static void leave(struct seg_pool *p)
{
	publish_remove(&p->published);
	budget_leave(p->allocator.budget, &p->member);
}

/* Without it the pool is as good; the keeper will try again. */
static void begin_publishing(struct seg_pool *p)
{
	int ret = publish_start();

	if (ret)
		log_event(&p->allocator.log, SEG_LOG_ERROR,
			  "Cannot publish figures: %s", strerror(-ret));
}

/* Who wants a line for each segment has no use for them. */
static void begin_stashes(struct seg_pool *p)
{
	if (!log_wants(&p->allocator.log, SEG_LOG_SEGMENT))
		stashes_begin(&p->allocator.stashes, gather_end);
	if (topology_has_many())
		stashes_meet_nodes(&p->allocator.stashes);
}

static int begin(struct seg_pool *p)
{
	int ret = pool_begin_nodes(p);

	if (ret)
		return ret;
	begin_stashes(p);
	ret = keeper_join(&p->duty);
	if (ret) {
		stashes_leave(&p->allocator.stashes);
		pool_leave_budgets(p);
		(void)pool_end_budgets(p);
		pool_end_nodes(p);
	} else {
		join(p);
	}
	return ret;
}

int seg_pool_create(const struct seg_pool_options *options,
		    struct seg_pool **ret_pool)
{
	struct seg_pool_options o = { 0 };
	struct seg_pool *p;
	int ret;

	if (!ret_pool)
		return -EINVAL;
	ret = options_complete(options, &o);
	if (ret)
		return ret;
	p = os_calloc(1, sizeof(*p));
	if (!p)
		return -ENOMEM;
	pool_init(p, &o);
	ret = begin(p);
	if (ret) {
		os_free(p);
		return ret;
	}
	if (o.publish)
		begin_publishing(p);
	*ret_pool = p;
	return 0;
}

/* Whether all regions are with the kernel again. */
static bool all_unmapped(struct seg_pool *p)
{
	bool all = true;

	for (struct node *n = NULL; (n = pool_next_node(p, n)) != NULL;)
		for (int c = 0; c < SEG_CLASSES; c++)
			all &= class_pool_is_unmapped(&n->pools[c]);
	return all;
}

/* Gives the metadata back, or as much as the kernel takes. */
static bool clear(struct seg_pool *p)
{
	bool done = true;

	keeper_hold();
	gather_unbind(&p->allocator);	/* should the pool go on all the same */
	for (struct node *n = NULL; done && (n = pool_next_node(p, n));)
		done = node_clear(n);
	done = done && region_table_clear(&p->allocator.table) &&
	       slab_clear(&p->pages) && stashes_clear(&p->allocator.stashes);
	keeper_let_go();
	return done;
}

/* Logs and caches hold pages, even when they are empty; and an allocation at
 * the limit, which takes time, has the pool itself. */
static bool has_owners(struct seg_pool *p)
{
	/* relaxed, both: by contract no other call is running */
	uint64_t logs = u64_load_relaxed(&p->logs);
	uint64_t caches = u64_load_relaxed(&p->caches);
	/* acquire <- take_slowly(): it was the last thing there */
	uint32_t waiting = u32_load_acquire(&p->waiting);

	if (logs || caches)
		log_event(&p->allocator.log, SEG_LOG_ERROR,
			  "Pool not destroyed: %llu intent logs, %llu caches",
			  (unsigned long long)logs, (unsigned long long)caches);
	if (waiting)
		log_event(&p->allocator.log, SEG_LOG_ERROR,
			  "Pool not destroyed: %u allocations at the limit",
			  waiting);
	return logs || caches || waiting;
}

static uint64_t active_of_class(struct seg_pool *p, int class_index)
{
	uint64_t active = 0;

	for (struct node *n = NULL; (n = pool_next_node(p, n)) != NULL;)
		active += class_sum_active(
			class_pool_sum(&n->pools[class_index]));
	return active;
}

static void log_active(struct seg_pool *p)
{
	for (int c = 0; c < SEG_CLASSES; c++) {
		uint64_t active = active_of_class(p, c);

		if (active)
			log_event(&p->allocator.log, SEG_LOG_ERROR,
				  "Pool not destroyed: %llu segments of pool "
				  "%d active", (unsigned long long)active, c);
	}
}

static bool end_budgets(struct seg_pool *p)
{
	bool done = pool_end_budgets(p);

	if (!done)
		log_event(&p->allocator.log, SEG_LOG_ERROR,
			  "Pool not destroyed: a node's budget is in use");
	return done;
}

/* The keeper may be in the middle of gathering, or of backing a region, with
 * slices in hand. */
static uint64_t trim_nodes(struct seg_pool *p)
{
	uint64_t bytes;

	keeper_hold();
	bytes = pool_trim_nodes(p);
	keeper_let_go();
	return bytes;
}

int seg_pool_destroy(struct seg_pool *p)
{
	if (!p)
		return 0;
	if (rcu_inside())
		return -EDEADLK;
	if (has_owners(p))
		return -EBUSY;
	/* Others at the limit may have its unused slices in hand till then. */
	leave(p);
	pool_leave_budgets(p);
	stashes_leave(&p->allocator.stashes);
	gather_last(&p->allocator);
	trim_nodes(p);
	keeper_flush();
	if (!all_unmapped(p) || !clear(p) || !end_budgets(p)) {
		log_active(p);
		begin_stashes(p);
		join(p);
		pool_join_budgets(p);
		return -EBUSY;
	}
	keeper_leave(&p->duty);
	pool_end_nodes(p);
	if (p->options.publish)
		publish_stop();
	os_free(p);
	return 0;
}

int seg_pool_trim(struct seg_pool *p, uint64_t *ret_bytes)
{
	uint64_t bytes;

	if (!p)
		return -EINVAL;
	if (rcu_inside())
		return -EDEADLK;
	gather_all(&p->allocator, true);
	bytes = trim_nodes(p);
	keeper_flush();
	if (ret_bytes)
		*ret_bytes = bytes;
	return 0;
}
