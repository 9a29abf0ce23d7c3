/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Identity, not address: what a pointer or a handle stands for, and what is
 * wrong with it.
 *
 * A handle names the region by its serial number and the hand-out by the
 * slice's generation.  Neither ever repeats within a pool: serials are 64 bits
 * and count regions, generations are 64 bits and count hand-outs and releases.
 * So a handle can't be mistaken for that of another owner, even if the address
 * was unmapped, mapped and handed out again.
 */
#include <errno.h>

#include "options.h"
#include "pool.h"
#include "rcu.h"

static const struct {
	const char *text;
	int error;
} misuses[] = {
	[SEG_MISUSE_DOUBLE] = { "double release", -ESTALE },
	[SEG_MISUSE_FOREIGN] = { "foreign address", -EINVAL },
	[SEG_MISUSE_INTERIOR] = { "interior address", -EINVAL },
	[SEG_MISUSE_STALE] = { "stale handle", -ESTALE },
	[SEG_MISUSE_UNMAPPED] = { "unmapped region", -ESTALE },
	[SEG_MISUSE_OWNER] = { "page owned by a log or cache", -EBUSY },
};

int pool_misuse(struct seg_pool *p, enum seg_misuse what, const void *address)
{
	int saved = errno;

	u64_add_relaxed(&p->misuses, 1); /* relaxed: counter */
	log_event(&p->allocator.log, SEG_LOG_ERROR, "Misuse: %s at %p",
		  misuses[what].text, address);
	if (p->options.misuse && callback_begin()) {
		p->options.misuse(p->options.misuse_ctx, what, address);
		callback_end();
	}
	errno = saved;
	return misuses[what].error;
}

enum seg_misuse pool_find(struct seg_pool *p, const void *segment,
			  struct region **ret_region, uint32_t *ret_slice)
{
	bool gone;
	struct region *r = region_table_find(&p->allocator.table, segment,
					     &gone);
	size_t offset;

	if (!r)
		return gone ? SEG_MISUSE_UNMAPPED : SEG_MISUSE_FOREIGN;
	offset = (size_t)((const char *)segment - region_base(r));
	if (offset & (r->slice_bytes - 1))
		return SEG_MISUSE_INTERIOR;
	*ret_region = r;
	*ret_slice = (uint32_t)(offset / r->slice_bytes);
	return 0;
}

/* Of an address at which no slice begins. */
static __attribute__((noinline)) enum seg_misuse
what_is_wrong(const struct region *r, const void *segment)
{
	if (!r)
		return SEG_MISUSE_FOREIGN;
	if (r == &region_gone)
		return SEG_MISUSE_UNMAPPED;
	return (size_t)((const char *)segment - region_base(r)) < r->bytes ?
		       SEG_MISUSE_INTERIOR : SEG_MISUSE_FOREIGN;
}

/*
 * The region may go at any moment, and its struct be that of another one.  But
 * no generation comes twice (R5).  So if it is odd, and the base afterwards
 * still that of the segment, then the hand-out was of the segment, and it is,
 * as long as the generation is the same.
 */
enum seg_misuse pool_find_out(struct seg_pool *p, const void *segment,
			      struct found *ret_found)
{
	struct found f;
	uint64_t slice;

	f.region = region_table_entry(&p->allocator.table, segment);
	slice = f.region ? region_slice_of(f.region, segment) : UINT64_MAX;
	if (!f.region || slice >= f.region->slices)
		return what_is_wrong(f.region, segment);
	f.slice = (uint32_t)slice;
	/* acquire <- region_hand_out(), stash_hand_out() */
	f.generation = u64_load_acquire(&f.region->generations[f.slice]);
	if (region_slice(f.region, f.slice) != segment)
		return SEG_MISUSE_UNMAPPED;
	*ret_found = f;
	return generation_is_out(f.generation) ? 0 : SEG_MISUSE_DOUBLE;
}

/* The hand-out of a segment, without a report of what is wrong. */
static int look_up(struct seg_pool *p, const void *segment,
		   struct seg_handle *ret_handle, size_t *ret_bytes)
{
	struct found f;
	enum seg_misuse wrong = pool_find_out(p, segment, &f);

	*ret_bytes = 0;
	*ret_handle = (struct seg_handle){ .segment = NULL };
	if (wrong)
		return misuses[wrong].error;
	*ret_handle = (struct seg_handle){
		.segment = (void *)(uintptr_t)segment,
		.region = region_serial(f.region),
		.generation = f.generation,
	};
	*ret_bytes = f.region->slice_bytes;
	return 0;
}

size_t seg_size(struct seg_pool *p, const void *segment)
{
	struct seg_handle handle;
	size_t bytes;

	return p && segment && !look_up(p, segment, &handle, &bytes) ? bytes :
								       0;
}

int seg_handle_of(struct seg_pool *p, const void *segment,
		  struct seg_handle *ret_handle)
{
	struct seg_handle handle;
	size_t bytes;
	int ret;

	if (!p || !segment || !ret_handle)
		return -EINVAL;
	ret = look_up(p, segment, &handle, &bytes);
	if (!ret)
		*ret_handle = handle;
	return ret;
}

int seg_resolve(struct seg_pool *p, const struct seg_handle *handle,
		void **ret_segment)
{
	struct seg_handle now;
	size_t bytes;

	if (!p || !handle || !handle->segment || !ret_segment)
		return -EINVAL;
	if (look_up(p, handle->segment, &now, &bytes) ||
	    now.region != handle->region ||
	    now.generation != handle->generation)
		return -ESTALE;
	*ret_segment = handle->segment;
	return 0;
}

static struct seg_region_info info_of(const struct region *r)
{
	uint32_t unused = word_unused(region_look(r));
	uint32_t cold = region_cold(r), out = region_count_out(r);
	uint32_t known = unused + cold + out;

	return (struct seg_region_info){
		.size = sizeof(struct seg_region_info),
		.base = region_base(r),
		.bytes = r->bytes,
		.region = region_serial(r),
		.node = r->pool->node_id,
		.class_index = r->pool->class_index,
		.slices = r->slices,
		.unused = unused,
		.decommitted = cold,
		.active = out,
		/* slices on the way from one to the other count, too */
		.cached = r->slices > known ? r->slices - known : 0,
	};
}

int seg_region_of(struct seg_pool *p, const void *address,
		  struct seg_region_info *ret_info)
{
	struct seg_region_info info;
	struct region *r;

	if (!p || !address || !result_is_valid(ret_info))
		return -EINVAL;
	rcu_enter();
	r = region_table_find(&p->allocator.table, address, NULL);
	if (r && word_retired(region_look(r)))
		r = NULL;
	if (r)
		info = info_of(r);
	rcu_leave();
	if (!r)
		return -ENOENT;
	result_put(ret_info, &info, sizeof(info));
	return 0;
}

static int each_of_class(struct class_pool *cp, seg_region_fn *fn, void *ctx)
{
	uint32_t slots = bands_slots(&cp->bands);
	int ret = 0;

	for (uint32_t slot = 0; slot < slots && !ret; slot++) {
		struct region *r = bands_at(&cp->bands, slot);
		struct seg_region_info info;

		if (!r || word_retired(region_look(r)))
			continue;
		info = info_of(r);
		ret = fn(ctx, &info);
	}
	return ret;
}

int seg_region_each(struct seg_pool *p, seg_region_fn *fn, void *ctx)
{
	int ret = 0;

	if (!p || !fn)
		return -EINVAL;
	rcu_enter();
	for (struct node *n = NULL; !ret && (n = pool_next_node(p, n));)
		for (int c = 0; c < SEG_CLASSES && !ret; c++)
			ret = each_of_class(&n->pools[c], fn, ctx);
	rcu_leave();
	return ret;
}
