/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Draining a pool: idle regions go, the caches are asked for what lies in
 * sparse ones, these go if that emptied them, and of all that stay the unused
 * slices give up backing and charge.  Then the regions are looked at once more:
 * who is still there, and what keeps it.
 *
 * Nothing is stopped meanwhile: a region that fills up again simply stays.
 */
#include <errno.h>
#include <stdlib.h>

#include "options.h"
#include "os.h"
#include "pool.h"
#include "rcu.h"

enum { NEW_REGIONS = 16 };	/* room for those that open meanwhile */

struct job {
	struct seg_pool *pool;
	unsigned sparse_percent;
	unsigned most;			/* spans that there is room for */
	struct drain drain;
	struct seg_drain result;
};

static uint64_t regions_now(struct seg_pool *p)
{
	uint64_t regions = 0;

	for (struct node *n = NULL; (n = pool_next_node(p, n)) != NULL;)
		for (int c = 0; c < SEG_CLASSES; c++)
			regions += class_pool_sum(&n->pools[c]).regions;
	return regions;
}

static bool is_sparse(const struct job *j, const struct seg_region_info *info)
{
	return info->active && (uint64_t)info->active * 100 <=
		       (uint64_t)info->slices * j->sparse_percent;
}

/* A seg_region_fn. */
static int add_span(void *ctx, const struct seg_region_info *info)
{
	struct job *j = ctx;

	if (is_sparse(j, info) && j->drain.count < j->most)
		j->drain.spans[j->drain.count++] = (struct drain_span){
			.first = (uintptr_t)info->base,
			.end = (uintptr_t)info->base + info->bytes,
			.region = info->region,
		};
	return 0;
}

static int by_address(const void *a, const void *b)
{
	uintptr_t x = ((const struct drain_span *)a)->first;
	uintptr_t y = ((const struct drain_span *)b)->first;

	return (x > y) - (x < y);
}

/* The caches of the pool's pages may belong to a budget further up. */
static void ask(struct job *j)
{
	struct seg_budget *b = j->pool->allocator.budget;

	qsort(j->drain.spans, j->drain.count, sizeof(*j->drain.spans),
	      by_address);
	for (; b && j->drain.count; b = b->parent)
		reclaim_drain(&b->reclaimers, &j->drain);
	j->result.evicted_bytes = j->drain.evicted_bytes;
	j->result.pinned_bytes = j->drain.pinned_bytes;
	j->result.cached_bytes = j->drain.cached_bytes;
}

/* What was given back a moment ago may still wait for a grace period. */
static void retire_idle(struct job *j)
{
	keeper_flush();
	gather_all(&j->pool->allocator, true);
	j->result.retired_bytes += pool_trim_nodes(j->pool);
	keeper_flush();
}

static uint64_t class_bytes(const struct seg_region_info *info, uint32_t slices)
{
	return ((uint64_t)SEG_MIN_BYTES << info->class_index) * slices;
}

/* Among the sparsest that were met so far, those with the fewest bytes. */
static void list_sparse(struct seg_drain *s, struct seg_sparse_region sparse)
{
	struct seg_sparse_region *list = s->sparsest;
	unsigned at = s->sparse_regions < SEG_SPARSE_MOST ?
			      (unsigned)s->sparse_regions : SEG_SPARSE_MOST;

	for (; at && list[at - 1].active_bytes > sparse.active_bytes; at--)
		if (at < SEG_SPARSE_MOST)
			list[at] = list[at - 1];
	if (at < SEG_SPARSE_MOST)
		list[at] = sparse;
	s->sparse_regions++;
}

static void add_sparse(struct job *j, const struct seg_region_info *info)
{
	struct drain_span *span = drain_find(&j->drain, info->base);
	struct seg_sparse_region sparse = {
		.base = info->base,
		.region = info->region,
		.bytes = info->bytes,
		.active_bytes = class_bytes(info, info->active),
		.class_index = (uint64_t)info->class_index,
	};

	if (span && span->region == info->region) {
		sparse.pinned_bytes = span->pinned_bytes;
		sparse.cached_bytes = span->cached_bytes;
	}
	j->result.sparse_bytes += sparse.active_bytes;
	list_sparse(&j->result, sparse);
}

/* A seg_region_fn. */
static int add_kept(void *ctx, const struct seg_region_info *info)
{
	struct job *j = ctx;

	j->result.kept_regions++;
	j->result.kept_bytes += info->bytes -
				class_bytes(info, info->decommitted);
	j->result.active_bytes += class_bytes(info, info->active);
	if (is_sparse(j, info))
		add_sparse(j, info);
	return 0;
}

static uint64_t decommit(struct seg_pool *p)
{
	uint64_t bytes = 0;

	for (struct node *n = NULL; (n = pool_next_node(p, n)) != NULL;)
		bytes += node_decommit(n, UINT64_MAX);
	return bytes;
}

static void run(struct job *j)
{
	struct allocator *a = &j->pool->allocator;
	uint64_t since_ns = os_now_ns();

	retire_idle(j);
	seg_region_each(j->pool, add_span, j);
	ask(j);
	retire_idle(j);
	j->result.decommitted_bytes = decommit(j->pool);
	seg_region_each(j->pool, add_kept, j);
	/* acquire <- allocator_note_error() */
	if (u64_load_acquire(&a->error_ns) >= since_ns)
		/* relaxed: for the record */
		j->result.error = u32_load_relaxed(&a->error);
}

int seg_pool_drain(struct seg_pool *p, unsigned sparse_percent,
		   struct seg_drain *ret_drain)
{
	struct job j = { .pool = p, .sparse_percent = sparse_percent,
			   .result.size = sizeof(j.result) };

	if (!p || sparse_percent > 100 ||
	    (ret_drain && !result_is_valid(ret_drain)))
		return -EINVAL;
	if (rcu_inside())
		return -EDEADLK;
	j.most = (unsigned)regions_now(p) + NEW_REGIONS;
	j.drain.spans = os_calloc(j.most, sizeof(*j.drain.spans));
	if (!j.drain.spans)
		return -ENOMEM;
	run(&j);
	os_free(j.drain.spans);
	if (ret_drain)
		result_put(ret_drain, &j.result, sizeof(j.result));
	return 0;
}
