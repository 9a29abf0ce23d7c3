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
	    o->wait_ms < SEG_NO_WAIT || o->tail_bytes > SEG_MIN_BYTES ||
	    (int)o->log_level < 0 || o->log_level > SEG_LOG_SEGMENT)
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

static uint64_t pool_shed(struct budget_member *member, uint64_t bytes)
{
	struct seg_pool *p = pool_of_member(member);
	uint64_t shed = 0;

	for (struct node *n = NULL; (n = next_member(p, n)) && shed < bytes;)
		shed += node_shed(n, bytes - shed);
	return shed;
}

static uint64_t pool_decommit(struct budget_member *member, uint64_t bytes)
{
	struct seg_pool *p = pool_of_member(member);
	uint64_t given = 0;

	for (struct node *n = NULL; (n = next_member(p, n)) && given < bytes;)
		given += node_decommit(n, bytes - given);
	return given;
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

	if (topology_has_many())
		topology_check();
	for (struct node *n = NULL; (n = pool_next_node(p, n)) != NULL;)
		if (node_decay(n, now_ns, decay_ns / 2))
			next = decay_ns / 4;
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
	p->member.shed = pool_shed;
	p->member.decommit = pool_decommit;
	p->member.report = pool_report;
	p->duty.run = pool_duty;
	p->duty.forked = pool_forked;
	p->published.kind = PUBLISHED_POOL;
	p->published.bytes = (1 + SEG_CLASSES) * sizeof(struct seg_pool_stats);
	p->published.fill = pool_publish;
	p->published.budget = &o->budget->published;
	publish_set_name(&p->published, o->name, "Pool");
	p->pages.object_bytes = PAGE_OBJECT_BYTES;
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

static int begin(struct seg_pool *p)
{
	int ret = pool_begin_nodes(p);

	if (ret)
		return ret;
	ret = keeper_join(&p->duty);
	if (ret) {
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

/* Whether all regions are with the kernel again, and their metadata. */
static bool all_unmapped(struct seg_pool *p)
{
	uint64_t own_bytes = 0;

	for (struct node *n = NULL; (n = pool_next_node(p, n)) != NULL;)
		for (int c = 0; c < SEG_CLASSES; c++)
			/* relaxed: the keeper's lock was taken since */
			own_bytes += u64_load_relaxed(&n->pools[c].own_bytes);
	return own_bytes == 0;
}

/* Gives the metadata back, or as much as the kernel takes. */
static bool clear(struct seg_pool *p)
{
	bool done = true;

	keeper_hold();
	for (struct node *n = NULL; done && (n = pool_next_node(p, n));)
		done = node_clear(n);
	done = done && region_table_clear(&p->allocator.table) &&
	       slab_clear(&p->pages);
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
	pool_trim_nodes(p);
	keeper_flush();
	if (!all_unmapped(p) || !clear(p) || !end_budgets(p)) {
		log_active(p);
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
	bytes = pool_trim_nodes(p);
	keeper_flush();
	if (ret_bytes)
		*ret_bytes = bytes;
	return 0;
}

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
			  (unsigned long long)class_pool_sum(cp).unused);
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

/* There is one node. */
static struct taken take(struct seg_pool *p, const struct request *q,
			 struct class_pool **ret_cp)
{
	struct taken t;

	*ret_cp = &p->node.pools[class_of(q->bytes)];
	t = class_pool_take(*ret_cp);
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

/* There are many: a slice of the wanted one, or all that place.h says. */
static struct taken take_placed(struct seg_pool *p, const struct request *q,
				struct class_pool **ret_cp)
{
	struct place place;
	struct taken t;

	if (!choose(p, q, &place))
		return no_node(p, q, &place);
	*ret_cp = first_pool(&place);
	if (!*ret_cp)
		return no_node(p, q, &place);
	t = class_pool_take(*ret_cp);
	if (!t.segment || place_settle(*ret_cp, &t, t.fresh &&
				       place_rests(&place, *ret_cp)) != PLACED)
		t = take_slowly(p, *ret_cp, q,
				(struct limit_want){ .place = &place }, ret_cp);
	if (t.segment)
		place_count_take(&place, *ret_cp);
	return t;
}

static void *allocate(struct seg_pool *p, struct request q)
{
	struct class_pool *cp;
	struct taken t;

	if (!p || q.bytes == 0 || q.bytes > SEG_MAX_BYTES) {
		errno = EINVAL;
		return NULL;
	}
	if (__builtin_expect(topology_has_many(), 0))
		t = take_placed(p, &q, &cp);
	else
		t = take(p, &q, &cp);
	if (!t.segment) {
		errno = ENOMEM;
		return NULL;
	}
	if (q.zeroed && !t.fresh)
		memset(t.segment, 0, cp->slice_bytes);
	log_allocated(cp, q.bytes);
	return t.segment;
}

void *seg_alloc(struct seg_pool *p, size_t bytes)
{
	return allocate(p, (struct request){ .bytes = bytes,
					     .default_wait = true });
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

static void log_released(struct class_pool *cp)
{
	struct log *log = &cp->allocator->log;

	if (log_wants(log, SEG_LOG_SEGMENT))
		log_event(log, SEG_LOG_SEGMENT,
			  "Segment returned to pool %d, pool now has %llu "
			  "segments", cp->class_index,
			  (unsigned long long)class_pool_sum(cp).unused);
}

/*
 * A handle that the pool did give out is old, whatever lies at its address by
 * now.
 */
static enum seg_misuse wrong_handle(struct seg_pool *p,
				    const struct seg_handle *handle,
				    enum seg_misuse wrong)
{
	/* relaxed: a handle of the caller's came with what it was made of */
	uint64_t serials = u64_load_relaxed(&p->allocator.serials);

	if (!handle->region || handle->region > serials)
		return SEG_MISUSE_FOREIGN;
	return wrong == SEG_MISUSE_UNMAPPED ? wrong : SEG_MISUSE_STALE;
}

static enum seg_misuse disown(struct region *r, uint32_t slice,
			      const struct seg_handle *handle)
{
	if (!handle)
		return region_disown(r, slice) ? 0 : SEG_MISUSE_DOUBLE;
	return r->serial == handle->region &&
			       region_disown_exactly(r, slice,
						     handle->generation) ?
		       0 : SEG_MISUSE_STALE;
}

/*
 * A correct release needs no read section, since its segment keeps the region
 * alive until the slice is given back.  A wrong one does, and nobody knows
 * which it is before the generation has said so.
 */
static int release(struct seg_pool *p, void *segment,
		   const struct seg_handle *handle)
{
	struct class_pool *cp = NULL;
	enum seg_misuse wrong;
	struct region *r;
	uint32_t slice;

	rcu_enter();
	wrong = pool_find(p, segment, &r, &slice);
	if (!wrong)
		wrong = disown(r, slice, handle);
	if (wrong && handle)
		wrong = wrong_handle(p, handle, wrong);
	if (!wrong) {
		cp = r->pool;
		class_pool_give(cp, r, slice);
	}
	rcu_leave();
	if (wrong)
		return pool_misuse(p, wrong, segment);
	budget_notify(p->allocator.budget);
	if (__builtin_expect(topology_has_many(), 0))
		place_count_give(cp);
	log_released(cp);
	return 0;
}

int seg_release(struct seg_pool *p, void *segment)
{
	if (!segment)
		return 0;
	return p ? release(p, segment, NULL) : -EINVAL;
}

int seg_release_handle(struct seg_pool *p, const struct seg_handle *handle)
{
	if (!p || !handle || !handle->segment)
		return -EINVAL;
	return release(p, handle->segment, handle);
}
