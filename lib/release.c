/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The ways to release.  Nearly all calls end in stash_release(): what the
 * thread's own stash has handed out is parked there.  What comes from nobody's
 * stash, or from another thread's, goes the long way.
 */
#include <errno.h>

#include "claim.h"
#include "pool.h"

static void log_released(struct class_pool *cp)
{
	struct log *log = &cp->allocator->log;

	if (log_wants(log, SEG_LOG_SEGMENT))
		log_event(log, SEG_LOG_SEGMENT,
			  "Segment returned to pool %d, pool now has %llu "
			  "segments", cp->class_index,
			  class_pool_free(cp));
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

/* Who may release it from now on: see stash.h and claim.h. */
enum release { RELEASE_LOST, RELEASE_OURS, RELEASE_CLAIMED };

/* In a section of the stash, if there is one. */
static enum release win(struct stash *st, const struct found *f,
			const struct seg_handle *handle,
			struct claim *ret_claim)
{
	uint32_t owner = owner_of(f->region, f->slice);

	if (st && owner == st->number)
		return stash_disown(&f->region->generations[f->slice],
				    f->generation, handle) ? RELEASE_OURS :
							     RELEASE_LOST;
	if (!owner)
		return region_disown_exactly(f->region, f->slice,
					     f->generation) ? RELEASE_OURS :
							      RELEASE_LOST;
	return claim_make(ret_claim, f->region, f->slice, f->generation) ?
		       RELEASE_CLAIMED : RELEASE_LOST;
}

static enum seg_misuse find_out(struct seg_pool *p, const void *segment,
				const struct seg_handle *handle,
				struct found *ret_found)
{
	enum seg_misuse wrong = pool_find_out(p, segment, ret_found);

	if (wrong || !handle)
		return wrong;
	return region_serial(ret_found->region) == handle->region &&
			       ret_found->generation == handle->generation ?
		       0 : SEG_MISUSE_STALE;
}

/* From now on nobody uses it. */
static void hide(struct region *r, void *segment)
{
	poison_released(segment, r->slice_bytes,
			r->pool->allocator->tail_bytes);
	counter_add(&r->pool->releases);
}

struct winner {
	enum seg_misuse wrong;
	enum release how;
	bool stands;		/* the claim, in the stash */
	struct found found;
	struct claim claim;	/* else */
};

/* In a section of the stash, if there is one: a claim stands there at once, if
 * there is a place for it. */
static void find_and_win(struct seg_pool *p, struct stash *st,
			 const void *segment, const struct seg_handle *handle,
			 struct winner *w)
{
	struct claim *place = st ? claim_place(st) : NULL;

	w->wrong = find_out(p, segment, handle, &w->found);
	if (w->wrong)
		return;
	w->how = win(st, &w->found, handle, place ? place : &w->claim);
	w->stands = place && w->how == RELEASE_CLAIMED;
	if (w->stands)
		claim_stands(st);
	if (w->how == RELEASE_LOST)
		w->wrong = handle ? SEG_MISUSE_STALE : SEG_MISUSE_DOUBLE;
}

static int report_wrong(struct seg_pool *p, const void *segment,
			const struct seg_handle *handle, enum seg_misuse wrong)
{
	return pool_misuse(p, handle ? wrong_handle(p, handle, wrong) : wrong,
			   segment);
}

/* What stash_release() does not do. */
static int release_slowly(struct seg_pool *p, void *segment,
			  const struct seg_handle *handle,
			  struct region **ret_region)
{
	struct allocator *a = &p->allocator;
	struct stash *st = stash_of(&a->stashes);
	struct winner w;

	if (st)
		section_enter(&st->section);
	find_and_win(p, st, segment, handle, &w);
	if (st)
		section_leave(&st->section);
	if (__builtin_expect(w.wrong, 0))
		return report_wrong(p, segment, handle, w.wrong);
	*ret_region = w.found.region;
	if (!st)
		st = stash_make(&a->stashes);	/* not for a wrong one */
	if (w.how == RELEASE_CLAIMED) {
		if (w.stands)
			gather_claimed(a, st, w.found.region);
		else
			gather_claim(a, st, &w.claim);
		return 0;
	}
	hide(w.found.region, segment);
	fill_park(st, w.found.region, w.found.slice);
	return 0;
}

/* Where somebody waits, nothing is parked. */
static void notify(struct seg_pool *p)
{
	struct seg_budget *budget = p->allocator.budget;

	if (__builtin_expect(!budget_has_waiters(budget), 1))
		return;
	gather_own(&p->allocator);
	budget_notify(budget);
}

static int tell(struct seg_pool *p, struct class_pool *cp)
{
	if (topology_has_many())
		place_count_give(cp);
	log_released(cp);
	notify(p);
	return 0;
}

static inline bool nobody_waits(const struct seg_pool *p)
{
	/* relaxed: loaded after the end of the section, and so seen if they
	 * have closed the stash meanwhile: (S2), see stash.h (M3) */
	return __builtin_expect(!u32_load_relaxed(p->waiters), 1);
}

/* Of another stash, or of none; or there is no room; or it is wrong. */
static __attribute__((noinline)) int
release_far(struct seg_pool *p, void *segment, const struct seg_handle *handle)
{
	struct region *r = NULL;
	int ret = release_slowly(p, segment, handle, &r);

	return ret ? ret : tell(p, r->pool);
}

static __attribute__((noinline)) int notify_late(struct seg_pool *p)
{
	notify(p);
	return 0;
}

/* The same among several nodes: a thread's releases are mostly of the node that
 * its stash is filled from. */
static __attribute__((noinline)) int
release_near(struct seg_pool *p, void *segment, const struct seg_handle *handle)
{
	struct stash *st = stash_of(&p->allocator.stashes);
	struct class_pool *cp;

	if (!st || !topology_has_many() ||
	    !stash_release(st, &p->allocator.table, segment, handle, &cp))
		return release_far(p, segment, handle);
	place_count_give(cp);
	return nobody_waits(p) ? 0 : notify_late(p);
}

static inline __attribute__((always_inline)) int
release(struct seg_pool *p, void *segment, const struct seg_handle *handle)
{
	struct stash *st = stash_of_one_node(&p->allocator.stashes);

	if (__builtin_expect(!st, 0))
		return release_near(p, segment, handle);
	if (__builtin_expect(!stash_release(st, &p->allocator.table, segment,
					    handle, NULL), 0))
		return release_far(p, segment, handle);
	return nobody_waits(p) ? 0 : notify_late(p);
}

int seg_release(struct seg_pool *p, void *segment)
{
	if (__builtin_expect(!segment, 0))
		return 0;
	return __builtin_expect(p != NULL, 1) ? release(p, segment, NULL) :
						-EINVAL;
}

int seg_release_handle(struct seg_pool *p, const struct seg_handle *handle)
{
	if (!p || !handle || !handle->segment)
		return -EINVAL;
	return release(p, handle->segment, handle);
}
