/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What a pool says of itself.  All figures come from the region words and from
 * counters of slow events; nothing here is written for the statistics' sake
 * but the two striped counters of allocations and releases, which check them.
 *
 * If the keeper moved something meanwhile they are read again (moves.h), but
 * not for ever: one that is stopped while it does must not stop who looks on.
 */
#include <errno.h>

#include "keeper.h"
#include "options.h"
#include "os.h"
#include "pool.h"
#include "topology.h"

static void add_regions(struct class_pool *cp, struct seg_pool_stats *s)
{
	struct class_sum sum = class_pool_sum(cp);

	s->regions += sum.regions;
	s->spare_regions += sum.spares;
	s->slices += sum.slices;
	s->unused += sum.unused;
	s->active += class_sum_active(sum);
	s->cached += sum.cached;
	s->active_bytes += class_sum_active(sum) * cp->slice_bytes;
	s->allocations_total += sum.allocations;
	s->releases_total += sum.releases;
	s->decommitted += sum.cold;
	s->decommitted_bytes += sum.cold * cp->slice_bytes;
}

static void add_class(struct class_pool *cp, struct seg_pool_stats *s)
{
	uint64_t unmapped, retired;

	add_regions(cp, s);
	/* relaxed, all of these: counters; unmapped is read before retired, so
	 * that their difference is never negative */
	unmapped = u64_load_relaxed(&cp->regions_unmapped);
	retired = u64_load_relaxed(&cp->regions_retired);
	s->deferred_regions += retired > unmapped ? retired - unmapped : 0;
	s->deferred_bytes += u64_load_relaxed(&cp->deferred_bytes);
	s->regions_mapped_total += u64_load_relaxed(&cp->regions_mapped);
	s->regions_retired_total += retired;
	s->regions_unmapped_total += unmapped;
	s->regions_ahead_total += u64_load_relaxed(&cp->regions_ahead);
	s->refusals_total += u64_load_relaxed(&cp->refusals);
	s->metadata_bytes += u64_load_relaxed(&cp->store.bytes) +
			     bands_bytes(&cp->bands);
	s->mapped_bytes += gauge_value(&cp->mapped);
	s->charged_bytes += class_pool_charged(cp);
	s->peak_mapped_bytes += gauge_peak(&cp->mapped);
}

/* What is not any class's own. */
static void add_whole(struct seg_pool *p, struct seg_pool_stats *s)
{
	/* relaxed, both: counters */
	s->misuses_total = u64_load_relaxed(&p->misuses);
	s->metadata_bytes += sizeof(*p) + slab_bytes(&p->pages) +
			     stashes_bytes(&p->allocator.stashes) +
			     u64_load_relaxed(&p->allocator.table.leaf_bytes);
	s->peak_mapped_bytes = gauge_peak(&p->allocator.mapped);
}

static void add_node(struct node *n, int class_index, struct seg_pool_stats *s)
{
	for (int c = 0; c < SEG_CLASSES; c++)
		if (class_index == SEG_ALL || class_index == c)
			add_class(&n->pools[c], s);
	if (class_index != SEG_ALL)
		return;
	s->remote_allocations_total += counter_sum(&n->remote_allocations);
	s->remote_releases_total += counter_sum(&n->remote_releases);
	s->fallbacks_total += counter_sum(&n->fallbacks);
	s->foreign_total += counter_sum(&n->foreign);
}

static struct seg_pool_stats sum_up(struct seg_pool *p, int node,
				    int class_index)
{
	struct seg_pool_stats s = { .size = sizeof(s) };

	for (struct node *n = NULL; (n = pool_next_node(p, n)) != NULL;)
		if (node == SEG_ALL || node == n->id)
			add_node(n, class_index, &s);
	if (class_index == SEG_ALL && node == SEG_ALL)
		add_whole(p, &s);
	return s;
}

enum { PATIENCE_NS = 1000 * 1000 * 1000 };

/* For the keeper, until then; 0: it begins now. */
static bool may_wait(uint64_t *until_ns)
{
	uint64_t now_ns = os_now_ns();

	if (keeper_at_work())
		return false;
	if (!*until_ns)
		*until_ns = now_ns + PATIENCE_NS;
	os_yield();
	return now_ns < *until_ns;
}

int seg_pool_stats(struct seg_pool *p, int node, int class_index,
		   struct seg_pool_stats *ret_stats)
{
	struct seg_pool_stats s;
	uint64_t until_ns = 0;
	uint32_t ended;
	unsigned index;

	if (!p || class_index < SEG_ALL || class_index >= SEG_CLASSES ||
	    !result_is_valid(ret_stats) ||
	    (node != SEG_ALL && !topology_find(node, &index)))
		return -EINVAL;
	do {
		ended = moves_ended(&p->allocator.moves);
		s = sum_up(p, node, class_index);
	} while (!moves_none_since(&p->allocator.moves, ended) &&
		 may_wait(&until_ns));
	result_put(ret_stats, &s, sizeof(s));
	return 0;
}

/* In sum, and then each class. */
bool pool_publish(struct publish_item *item, void *to)
{
	struct seg_pool *p = (void *)((char *)item -
				      offsetof(struct seg_pool, published));
	struct seg_pool_stats *stats = to;

	for (int c = SEG_ALL; c < SEG_CLASSES; c++) {
		stats->size = sizeof(*stats);
		seg_pool_stats(p, SEG_ALL, c, stats++);
	}
	return true;
}

/* The budget may have other pools, so it has at least what this one says. */
static bool pool_is_valid(struct seg_pool *p)
{
	uint64_t mapped = 0, charged = 0;
	uint64_t word;

	for (struct node *n = NULL; (n = pool_next_node(p, n)) != NULL;) {
		if (!node_is_valid(n))
			return false;
		for (int c = 0; c < SEG_CLASSES; c++) {
			mapped += gauge_value(&n->pools[c].mapped);
			charged += class_pool_charged(&n->pools[c]);
		}
	}
	word = budget_look(p->allocator.budget);
	return mapped == gauge_value(&p->allocator.mapped) &&
	       charged <= budget_word_charged(word) &&
	       budget_word_charged(word) <= budget_word_limit(word);
}

bool seg_pool_is_valid(struct seg_pool *p)
{
	bool valid;

	if (!p)
		return false;
	keeper_hold();
	valid = pool_is_valid(p);
	keeper_let_go();
	return valid;
}
