/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* See node.h. */
#include "node.h"

#include "topology.h"

static size_t floor_power(uint64_t bytes)
{
	return (size_t)1 << (63 - __builtin_clzll(bytes));
}

static uint64_t smaller(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

static uint64_t larger(uint64_t a, uint64_t b)
{
	return a > b ? a : b;
}

size_t node_region_bytes(int class_index, uint64_t limit, size_t most)
{
	uint64_t slice = (uint64_t)SEG_MIN_BYTES << class_index;
	uint64_t wanted = larger(limit / 16,
				 smaller(slice * NODE_MIN_SLICES, limit / 4));

	wanted = smaller(wanted, most);
	return floor_power(larger(wanted, slice));
}

void node_init(struct node *node, struct allocator *a, int id, size_t most)
{
	node->id = id;
	node->budget = a->budget;
	for (int c = 0; c < SEG_CLASSES; c++) {
		class_pool_init(&node->pools[c], a, c, most);
		node->pools[c].node_id = id;
	}
}

void node_use_budget(struct node *node, struct seg_budget *budget)
{
	node->budget = budget;
	for (int c = 0; c < SEG_CLASSES; c++)
		node->pools[c].budget = budget;
}

bool node_clear(struct node *node)
{
	for (int c = 0; c < SEG_CLASSES; c++)
		if (!class_pool_clear(&node->pools[c]))
			return false;
	return true;
}

/* The largest classes first: fewer regions for the same bytes. */
uint64_t node_shed(struct node *node, uint64_t bytes)
{
	uint64_t shed = 0;

	for (int c = SEG_CLASSES - 1; c >= 0 && shed < bytes; c--)
		shed += class_pool_shed(&node->pools[c], bytes - shed);
	return shed;
}

/* All-unused ones first, then the sparsest; and the first once more, since the
 * keeper may just have moved a region there. */
uint64_t node_decommit(struct node *node, uint64_t bytes)
{
	static const unsigned order[] = { BAND_SPARE, BAND_SPARSEST, 2, 1,
					  BAND_FULLEST, BAND_SPARE };
	uint64_t given = 0;

	for (unsigned i = 0; i < 6 && given < bytes; i++)
		for (int c = SEG_CLASSES - 1; c >= 0 && given < bytes; c--)
			given += class_pool_decommit(&node->pools[c], order[i],
						     bytes - given);
	return given;
}

uint64_t node_trim(struct node *node)
{
	uint64_t trimmed = 0;

	for (int c = 0; c < SEG_CLASSES; c++)
		trimmed += class_pool_trim(&node->pools[c]);
	return trimmed;
}

bool node_decay(struct node *node, uint64_t now_ns, uint64_t idle_ns)
{
	bool left = false;

	for (int c = 0; c < SEG_CLASSES; c++)
		left |= class_pool_decay(&node->pools[c], now_ns, idle_ns);
	return left;
}

/* Not where the process may have no memory, or there was none just now. */
static bool may_open(const struct node *node, uint64_t now_ns)
{
	/* relaxed: a hint */
	return topology_is_usable(node->index) &&
	       u64_load_relaxed(&node->rest_until_ns) <= now_ns;
}

/* The budget is looked at only for what is in use, whose pool does not end. */
bool node_open_ahead(struct node *node, uint64_t now_ns)
{
	bool more = false;

	for (int c = 0; c < SEG_CLASSES; c++) {
		struct class_pool *cp = &node->pools[c];

		if (class_pool_wants_ahead(cp) && may_open(node, now_ns))
			class_pool_open_ahead(cp, node_region_bytes(
				c, budget_limit(cp->budget), cp->most_bytes));
		more |= class_pool_back_ahead(cp);
	}
	return more;
}

void node_report(struct node *node, struct seg_holder *holder)
{
	for (int c = 0; c < SEG_CLASSES; c++) {
		struct class_pool *cp = &node->pools[c];

		holder->charged_bytes += class_pool_charged(cp);
		holder->active_bytes += class_sum_active(class_pool_sum(cp)) *
					cp->slice_bytes;
	}
}

bool node_is_valid(struct node *node)
{
	for (int c = 0; c < SEG_CLASSES; c++)
		if (!class_pool_is_valid(&node->pools[c]))
			return false;
	return true;
}
