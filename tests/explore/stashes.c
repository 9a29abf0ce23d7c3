/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* See stashes.h. */
#include "stashes.h"

#include <string.h>

#include "rcu.h"
#include "topology.h"

/* Only one leaf of the table is ever used; the table is large. */
enum { ROOT = TABLE_GRANULE_BITS + TABLE_LEAF_BITS, ROOM = 4 };

struct seg_pool stashes_pool;
struct class_pool *const stashes_class = &stashes_pool.node.pools[0];

static struct seg_budget budget;
static struct allocator *const allocator = &stashes_pool.allocator;

static void make_pool(unsigned units)
{
	struct seg_pool *p = &stashes_pool;

	memset(&budget, 0, sizeof(budget));
	u64_store_relaxed(&budget.word, budget_word(units, 0));
	memset(&allocator->serials, 0, sizeof(allocator->serials));
	memset(&allocator->mapped, 0, sizeof(allocator->mapped));
	memset(&allocator->moves, 0, sizeof(allocator->moves));
	memset(&allocator->stashes, 0, sizeof(allocator->stashes));
	ptr_store_relaxed(&allocator->table.leaf[EXPLORE_FIRST_REGION >> ROOT],
			  NULL);
	allocator->budget = &budget;
	memset(&p->node, 0, sizeof(p->node));
	memset(&p->waiting, 0, sizeof(p->waiting));
	p->waiters = &budget.waiters;
	node_init(&p->node, allocator, 0, units * SEG_MIN_BYTES);
	u32_store_relaxed(&topology.count, 1);
	explore_counter(&topology.count.word);
	ptr_store_relaxed(&p->nodes[0], &p->node);
	explore_counter(&p->nodes[0].word);
}

/* Classes that no scenario has. */
static void make_stash(unsigned thread)
{
	struct stash *st;

	explore_as(thread);
	st = stash_make(&allocator->stashes);
	explore_check(st);
	explore_counters(&st->magazine[1],
			 (SEG_CLASSES - 1) * sizeof(st->magazine[1]));
}

static void park_all(void *first)
{
	void *segment[ROOM] = { first };
	unsigned n = 1;

	while (n < ROOM && (segment[n] = stashes_take()) != NULL)
		n++;
	while (n-- > 0)
		stashes_release(segment[n]);
}

void stashes_open(unsigned slices, unsigned threads)
{
	struct taken t;

	make_pool(slices);
	stashes_init(&allocator->stashes, allocator, 0);
	stashes_begin(&allocator->stashes, gather_end);
	allocator->stashes.most_bytes = 2 * threads * ROOM * SEG_MIN_BYTES;
	for (unsigned i = 0; i < threads; i++)
		make_stash(i);
	explore_as(0);
	explore_check(class_pool_open(stashes_class, slices * SEG_MIN_BYTES,
				      slices, &t) == OPEN_DONE);
	park_all(t.segment);
	explore_check(class_pool_sum(stashes_class).cached == slices);
}

void *stashes_take(void)
{
	struct stash *st = stash_of(&allocator->stashes);
	struct taken t = { .segment = NULL };

	if (st)
		t = stash_take(st, NULL, 0);
	if (t.segment)
		return t.segment;
	return fill_take(stashes_class).segment;
}

void stashes_use(void *segment)
{
	struct explore_cell *cell = explore_contents(segment);
	uint64_t mark = explore_thread() + 1;

	explore_write(cell, mark);
	explore_pause();
	explore_check(explore_read(cell) == mark);
}

void stashes_release(void *segment)
{
	(void)seg_release(&stashes_pool, segment);
}

void stashes_use_and_release(void *segment)
{
	if (!segment)
		return;
	stashes_use(segment);
	stashes_release(segment);
}

struct region *stashes_region(const void *segment)
{
	struct region *r;

	rcu_enter();
	r = region_table_find(&allocator->table, segment, NULL);
	rcu_leave();
	return r;
}

void stashes_close(void)
{
	explore_check(class_pool_is_valid(stashes_class));
	gather_all(allocator, true);
	explore_check(class_pool_is_valid(stashes_class));
	explore_check(class_pool_sum(stashes_class).cached == 0);
	class_pool_trim(stashes_class);
	while (explore_keeper_run())
		;
	explore_check(budget_word_charged(budget_look(&budget)) == 0);
	explore_check(explore_misuses_left == 0);
}
