/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The nodes of a pool: the first is part of it, the others are made when
 * something is wanted of them, and stay until the pool ends.  A pool whose
 * nodes have limits of their own makes a sub-budget with each, for all usable
 * nodes at once.
 *
 * A node that the process may no longer use (its cpuset shrank, or the memory
 * went) serves nobody from then on.  The kernel moves what is in use; what is
 * unused is given up as anywhere else: regions when they are idle, slices at
 * the limit.  Should it come back, see place.h.
 */
#include <errno.h>
#include <stdio.h>

#include "options.h"
#include "os.h"
#include "pool.h"
#include "rcu.h"
#include "topology.h"

/* ---- they come ---- */

static struct node *node_of_member(struct budget_member *member)
{
	return (struct node *)((char *)member - offsetof(struct node, member));
}

static uint64_t shed(struct budget_member *member, uint64_t bytes)
{
	struct node *node = node_of_member(member);

	gather_all(&node->pool->allocator, false);
	return node_shed(node, bytes);
}

static uint64_t decommit(struct budget_member *member, uint64_t bytes)
{
	struct node *node = node_of_member(member);

	gather_all(&node->pool->allocator, false);
	return node_decommit(node, bytes);
}

static void report(struct budget_member *member, struct seg_holder *holder)
{
	struct node *node = node_of_member(member);

	holder->id = (uint64_t)(uintptr_t)node->pool;
	node_report(node, holder);
}

static int give_budget(struct seg_pool *p, struct node *node)
{
	struct seg_budget_options o = {
		.size = sizeof(o),
		.parent = node->budget,
		.limit_bytes = p->options.node_limit_bytes,
	};
	struct seg_budget *budget;
	char name[32];
	int ret;

	snprintf(name, sizeof(name), "%.15s node %d", p->published.name,
		 node->id);
	o.name = name;
	ret = seg_budget_create(&o, &budget);
	if (ret)
		return ret;
	node_use_budget(node, budget);
	node->owns_budget = true;
	node->member.shed = shed;
	node->member.decommit = decommit;
	node->member.report = report;
	budget_join(budget, &node->member);
	return 0;
}

static int begin(struct seg_pool *p, struct node *node, unsigned index)
{
	node_init(node, &p->allocator, topology_id(index),
		  p->options.region_bytes);
	node->pool = p;
	node->index = index;
	for (int c = 0; c < SEG_CLASSES; c++)
		node->pools[c].node_index = index;
	return p->options.node_limit_bytes ? give_budget(p, node) : 0;
}

/* Nobody ever saw it. */
static void discard(struct node *node)
{
	if (node->owns_budget) {
		budget_leave(node->budget, &node->member);
		(void)seg_budget_destroy(node->budget);
	}
	os_free(node);
}

/* Whoever may not wait gets none with a budget of its own. */
static struct node *make(struct seg_pool *p, unsigned index)
{
	bool may = !p->options.node_limit_bytes ||
		   (reclaim_may_ask() && !rcu_inside());
	int saved = errno;
	struct node *node = may ? os_calloc(1, sizeof(*node)) : NULL;
	void *found = NULL;

	if (node && begin(p, node, index)) {
		os_free(node);
		node = NULL;
	}
	errno = saved;
	if (!node)
		return NULL;
	/* acq_rel: release -> pool_node(); acquire <- the one that was first */
	if (ptr_cas_strong_acq_rel(&p->nodes[index], &found, node))
		return node;
	discard(node);
	return found;
}

struct node *pool_node(struct seg_pool *p, unsigned index)
{
	/* acquire <- make() */
	struct node *node = ptr_load_acquire(&p->nodes[index]);

	return node ? node : make(p, index);
}

struct node *pool_next_node(struct seg_pool *p, struct node *after)
{
	unsigned count = topology_count();
	struct node *node = NULL;

	for (unsigned i = after ? after->index + 1 : 0; i < count && !node; i++)
		/* acquire <- make() */
		node = ptr_load_acquire(&p->nodes[i]);
	return node;
}

/* All that are usable, where each has a limit. */
static bool make_all(struct seg_pool *p)
{
	unsigned count = topology_count();

	for (unsigned i = 0; i < count; i++)
		if (topology_is_usable(i) && !pool_node(p, i))
			return false;
	return true;
}

int pool_begin_nodes(struct seg_pool *p)
{
	unsigned first = topology_turn(0);
	int ret = begin(p, &p->node, first);

	if (ret)
		return ret;
	/* release -> pool_node() */
	ptr_store_release(&p->nodes[first], &p->node);
	if (!p->options.node_limit_bytes || make_all(p))
		return 0;
	pool_leave_budgets(p);
	(void)pool_end_budgets(p);
	pool_end_nodes(p);
	return -ENOMEM;
}

/* ---- they go ---- */

void pool_leave_budgets(struct seg_pool *p)
{
	for (struct node *n = NULL; (n = pool_next_node(p, n)) != NULL;)
		if (n->owns_budget)
			budget_leave(n->budget, &n->member);
}

void pool_join_budgets(struct seg_pool *p)
{
	for (struct node *n = NULL; (n = pool_next_node(p, n)) != NULL;)
		if (n->owns_budget)
			budget_join(n->budget, &n->member);
}

/* A node whose budget went goes on with the pool's. */
bool pool_end_budgets(struct seg_pool *p)
{
	for (struct node *n = NULL; (n = pool_next_node(p, n)) != NULL;) {
		if (!n->owns_budget)
			continue;
		if (seg_budget_destroy(n->budget))
			return false;
		n->owns_budget = false;
		node_use_budget(n, p->allocator.budget);
	}
	return true;
}

void pool_end_nodes(struct seg_pool *p)
{
	for (unsigned i = 0; i < TOPOLOGY_NODES; i++) {
		/* relaxed: nobody else is there */
		struct node *node = ptr_load_relaxed(&p->nodes[i]);

		if (node && node != &p->node)
			os_free(node);
	}
}

uint64_t pool_trim_nodes(struct seg_pool *p)
{
	uint64_t bytes = 0;

	for (struct node *n = NULL; (n = pool_next_node(p, n)) != NULL;)
		bytes += node_trim(n);
	return bytes;
}

/* ---- what can be asked ---- */

int seg_node_each(struct seg_pool *p, seg_node_fn *fn, void *ctx)
{
	int ret = 0;

	if (!p || !fn)
		return -EINVAL;
	topology_look();
	for (unsigned i = 0; i < topology_count() && !ret; i++) {
		struct node *node = pool_node(p, i);
		struct seg_node_info info = {
			.size = sizeof(info),
			.node = topology_id(i),
			.usable = topology_is_usable(i),
			.budget = node && node->owns_budget ? node->budget :
							      NULL,
		};

		ret = fn(ctx, &info);
	}
	return ret;
}

static int look_at_pool(struct class_pool *cp, struct numa_pages *pages)
{
	uint32_t slots = bands_slots(&cp->bands);
	int ret = 0;

	for (uint32_t slot = 0; slot < slots && !ret; slot++) {
		struct region *r;

		rcu_enter();
		r = bands_at(&cp->bands, slot);
		if (r && !word_retired(region_look(r)))
			ret = topology_system()->where(region_base(r), r->bytes,
						       cp->node_id, pages);
		rcu_leave();
	}
	return ret;
}

int seg_pool_placement(struct seg_pool *p, int node,
		       struct seg_placement *ret_placement)
{
	struct seg_placement s = { .size = sizeof(s) };
	struct numa_pages pages = { 0 };
	unsigned index;
	int ret = 0;

	if (!p || !result_is_valid(ret_placement) ||
	    (node != SEG_ALL && !topology_find(node, &index)))
		return -EINVAL;
	for (struct node *n = NULL; (n = pool_next_node(p, n)) != NULL;) {
		if (node != SEG_ALL && node != n->id)
			continue;
		for (int c = 0; c < SEG_CLASSES && !ret; c++)
			ret = look_at_pool(&n->pools[c], &pages);
	}
	if (ret)
		return ret;
	s.placed_pages = pages.placed;
	s.misplaced_pages = pages.misplaced;
	s.resident_pages = pages.placed + pages.misplaced;
	s.absent_pages = pages.absent;
	result_put(ret_placement, &s, sizeof(s));
	return 0;
}
