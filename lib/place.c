/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* See place.h. */
#include "place.h"

#include <errno.h>
#include <string.h>

#include "os.h"
#include "pool.h"
#include "rcu.h"
#include "topology.h"

#define REST_NS (UINT64_C(100) * 1000 * 1000)

/* ---- which node ---- */

static bool has_node(enum seg_policy policy)
{
	return policy == SEG_POLICY_PREFERRED || policy == SEG_POLICY_NODE;
}

/* One that came a moment ago is there, too. */
static bool was_met(int node)
{
	unsigned index;

	if (topology_find(node, &index))
		return true;
	topology_look();
	return topology_find(node, &index);
}

bool place_is_valid(enum seg_policy policy, int node)
{
	if ((unsigned)policy > SEG_POLICY_NODE)
		return false;
	return !has_node(policy) || was_met(node);
}

/* The thread's node, or the nearest to it that has memory for us. */
static unsigned local_node(void)
{
	unsigned near;

	return topology_nearest(&near) ? near : topology_turn(0);
}

/* Each class of a thread goes round by itself: else two classes that are
 * always allocated together would each stay on nodes of its own. */
static unsigned next_turn(int class_index)
{
	static _Thread_local unsigned turns[SEG_CLASSES];

	return topology_turn(counter_slot() + turns[class_index]++);
}

/* False: the node was never met. */
static bool first_node(enum seg_policy policy, int node, struct place *place)
{
	place->wanted = place->local;
	if (policy == SEG_POLICY_INTERLEAVE)
		place->wanted = next_turn(place->class_index);
	return !has_node(policy) || topology_find(node, &place->wanted);
}

bool place_choose(struct seg_pool *p, int class_index, enum seg_policy policy,
		  int node, struct place *ret_place)
{
	*ret_place = (struct place){
		.pool = p,
		.class_index = class_index,
		.local = local_node(),
		.strict = policy == SEG_POLICY_STRICT ||
			  policy == SEG_POLICY_NODE,
	};
	return first_node(policy, node, ret_place) &&
	       (!ret_place->strict || topology_is_usable(ret_place->wanted));
}

struct class_pool *place_near(struct seg_pool *p, int class_index)
{
	struct node *node;
	unsigned near;

	if (p->options.policy > SEG_POLICY_STRICT ||
	    !topology_nearest(&near))
		return NULL;
	/* acquire <- pool_node() */
	node = ptr_load_acquire(&p->nodes[near]);
	return node ? &node->pools[class_index] : NULL;
}

struct place place_of_near(struct seg_pool *p, const struct class_pool *near)
{
	return (struct place){
		.pool = p,
		.class_index = near->class_index,
		.local = near->node_index,
		.wanted = near->node_index,
		.strict = p->options.policy == SEG_POLICY_STRICT,
	};
}

struct class_pool *place_pool(const struct place *place, unsigned k,
			      bool *ret_more)
{
	unsigned index = place->wanted;
	struct node *node;

	*ret_more = place->strict ?
			    k == 0 : topology_near(place->wanted, k, &index);
	node = *ret_more ? pool_node(place->pool, index) : NULL;
	return node ? &node->pools[place->class_index] : NULL;
}

/* ---- is it there ---- */

static struct node *node_of(struct class_pool *cp)
{
	struct class_pool *first = cp - cp->class_index;

	return (struct node *)((char *)first - offsetof(struct node, pools));
}

bool place_rests(const struct place *place, const struct class_pool *cp)
{
	const struct node *node = node_of((struct class_pool *)cp);
	/* relaxed: a hint */
	uint64_t until_ns = u64_load_relaxed(&node->rest_until_ns);

	/* relaxed: a hint; nodes that came may be this one */
	return !place->strict && until_ns &&
	       u32_load_relaxed(&node->rest_changes) == topology_changes() &&
	       os_now_ns() < until_ns;
}

uint64_t place_make_room(const struct place *place, struct class_pool *cp,
			 uint64_t bytes)
{
	if (!place->strict || !topology_is_usable(cp->node_index))
		return 0;
	return node_decommit(node_of(cp), bytes);
}

/* One line for each rest. */
static void note_full(struct class_pool *cp, int error)
{
	struct node *node = node_of(cp);
	uint64_t now_ns = os_now_ns();
	/* relaxed: a hint */
	uint64_t until_ns = u64_load_relaxed(&node->rest_until_ns);

	allocator_note_error(cp->allocator, error);
	if (until_ns > now_ns ||
	    /* relaxed: a hint; the one that sets it tells */
	    !u64_cas_strong_relaxed(&node->rest_until_ns, &until_ns,
				    now_ns + REST_NS))
		return;
	/* relaxed: a hint */
	u32_store_relaxed(&node->rest_changes, topology_changes());
	log_event(&cp->allocator->log, SEG_LOG_ERROR,
		  "Cannot place memory of pool %d on node %d: %s",
		  cp->class_index, cp->node_id, strerror(error));
}

static void note_room(struct class_pool *cp)
{
	struct atomic_u64 *rest = &node_of(cp)->rest_until_ns;

	/* relaxed, both: a hint */
	if (u64_load_relaxed(rest))
		u64_store_relaxed(rest, 0); /* relaxed: as above */
}

static bool is_unknown(int ret)
{
	return ret == -EPERM || ret == -ENOSYS;
}

/* Nodes that went are noticed here, too. */
static bool place_memory(struct class_pool *cp, void *segment)
{
	int ret = topology_system()->place(segment, cp->slice_bytes,
					   cp->node_id);

	if (!ret || is_unknown(ret)) {
		note_room(cp);
		return true;
	}
	note_full(cp, -ret);
	topology_check();
	return false;
}

/* What was handed out before lies right, unless the node was away since its
 * region was mapped, or class_pool_cool() says so. */
static bool is_known(struct class_pool *cp, const struct taken *t)
{
	uint32_t away = topology_away(cp->node_index);
	bool known = place_is_sure(cp, t->fresh);

	/* relaxed: as place_is_sure() */
	if (away && !t->fresh && !u32_load_relaxed(&cp->unplaced)) {
		struct region *r;

		rcu_enter();
		r = region_table_find(&cp->allocator->table, t->segment, NULL);
		known = r && r->away == away;
		rcu_leave();
	}
	return known;
}

enum placed place_settle(struct class_pool *cp, struct taken *t, bool full)
{
	bool cold;

	if (is_known(cp, t) || (!full && place_memory(cp, t->segment)))
		return PLACED;
	cold = class_pool_cool(cp, t->segment);
	t->segment = NULL;
	return cold ? PLACED_NOT : PLACED_KEPT;
}

/* ---- counts ---- */

void place_count_take(const struct place *place, struct class_pool *cp)
{
	struct node *node = node_of(cp);
	struct node *wanted;

	if (node->index != place->local)
		counter_add(&node->remote_allocations);
	if (node->index == place->wanted)
		return;
	/* Without memory for the wanted one there is nowhere to count. */
	wanted = pool_node(place->pool, place->wanted);
	if (!wanted)
		return;
	counter_add(&node->fallbacks);
	counter_add(&wanted->foreign);
}

void place_count_give(struct class_pool *cp)
{
	struct node *node = node_of(cp);

	if (node->index != local_node())
		counter_add(&node->remote_releases);
}
