/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The regions of one class on one node: take a slice, give one back
 * (class_pool.c), open a region (open.c), open the next one ahead (ahead.c),
 * retire idle ones (retire.c), give up the backing of unused slices and charge
 * it again (decommit.c, cold.h).
 *
 * Opening: charge, map, take the first slice, only then publish.  So the
 * thread that opened a region has its slice whatever the others do, and a
 * thread that stops in between holds up nobody: others retry for a while and
 * then open one themselves (class_pool_begin_open()).
 * Retiring: the winner of region_retire() takes the region out of bands and
 * table and defers the rest to the keeper, which unmaps it after a grace
 * period, uncharges what was charged, and wakes those who wait.
 *
 * Equations, at any moment without a thread in a call:
 *   regions_mapped = regions in use + deferred + regions_unmapped
 *   mapped = bytes of the regions in use + deferred_bytes
 *   charged = mapped - cold_bytes
 *   allocations - releases = active = slices - unused - cold - cached
 * Opening and decommitting ask the kernel; the rest is lock-free.
 */
#ifndef SEG_CLASS_POOL_H
#define SEG_CLASS_POOL_H

#include "bands.h"
#include "budget.h"
#include "log.h"
#include "moves.h"
#include "region_store.h"
#include "region_table.h"
#include "seg.h"
#include "stash.h"

/* What all pools of one allocator share. */
struct allocator {
	struct seg_budget *budget;
	struct log log;
	struct region_table table;
	struct atomic_u64 serials;	/* regions so far */
	struct gauge mapped;
	struct moves moves;		/* by the keeper */
	struct atomic_u32 error;	/* errno of the last failed call ... */
	struct atomic_u64 error_ns;	/* ... and when */
	/* written at creation */
	size_t tail_bytes;		/* readable behind each slice */
	enum seg_huge_pages huge_pages;
	enum seg_ahead ahead;
	struct stashes stashes;		/* what the threads have at hand */
};

/* What is mapped behind a region's last slice, neither charged nor counted. */
static inline size_t allocator_tail_map(const struct allocator *a)
{
	return a->tail_bytes ? SEG_MIN_BYTES : 0;
}

/* A call of the system failed. */
void allocator_note_error(struct allocator *a, int error);

/* The end of the log's lines on regions. */
struct allocator_total {
	unsigned long long charged_kb, limit_kb, mapped_kb;
};
struct allocator_total allocator_total(const struct allocator *a);

struct class_pool {
	/* written at creation */
	struct allocator *allocator;
	struct seg_budget *budget;	/* the allocator's, or its node's own */
	int node_id;
	unsigned node_index;		/* topology.h's */
	int class_index;
	size_t slice_bytes;
	size_t most_bytes;		/* of a region */
	/* written when regions come and go */
	struct bands bands;
	struct atomic_u32 opening;	/* a thread maps a region */
	struct atomic_u32 ahead_wanted;	/* see ahead.c ... */
	struct atomic_u32 backing;	/* ... slices that it has in hand ... */
	uint32_t back_slot, back_step;	/* ... the keeper's: whose; how many */
	uint32_t back_left;		/* ... at a time; how many more */
	struct gauge mapped;		/* bytes, deferred included */
	struct atomic_u64 deferred_bytes;	/* address space */
	struct atomic_u64 cold_bytes;	/* mapped, not charged */
	struct atomic_u64 deferred_cold_bytes;	/* of these: deferred */
	struct atomic_u64 decommitted_bytes;	/* made cold so far */
	struct atomic_u64 recommitted_bytes;	/* and charged again */
	struct region_store store;
	struct atomic_u64 regions_mapped;
	struct atomic_u64 regions_retired;
	struct atomic_u64 regions_unmapped;
	struct atomic_u64 regions_ahead;	/* of those mapped */
	struct atomic_u64 refusals;
	struct atomic_u32 unplaced;	/* see class_pool_cool() */
	struct atomic_u32 strays;	/* see claim.h */
	/* written by every call, striped */
	struct counter allocations;
	struct counter releases;
};

void class_pool_init(struct class_pool *cp, struct allocator *a,
		     int class_index, size_t most_bytes);

/* As bands_clear(). */
bool class_pool_clear(struct class_pool *cp);

/* From the fullest region, as far as the hints know. */
struct taken class_pool_take(struct class_pool *cp);

/* Up to so many of one region, which stay unused; how many. */
uint32_t class_pool_take_unused(struct class_pool *cp, uint32_t want,
				uint32_t *ret_slices,
				struct region **ret_region);
/* One of those. */
struct taken class_pool_hand_out(struct class_pool *cp, struct region *r,
				 uint32_t slice);

/* From any region, whatever the hints say; slow.  Of a cold slice, too, if one
 * can be charged. */
struct taken class_pool_take_any(struct class_pool *cp);
/* Of those that are charged only. */
struct taken class_pool_take_unhinted(struct class_pool *cp);

/* A cold slice, charged; none if there is none or no room for its charge. */
struct taken class_pool_take_cold(struct class_pool *cp);
struct taken class_pool_take_any_cold(struct class_pool *cp);

/* Gives disowned slices of one of the pool's regions back; in a section. */
void class_pool_give(struct class_pool *cp, struct region *r, uint32_t slice);
void class_pool_give_all(struct class_pool *cp, struct region *r,
			 const uint32_t *slices, uint32_t count);
/* The same for parked ones, which are released already; at least one. */
void class_pool_put_back(struct class_pool *cp, struct region *r,
			 const uint32_t *slices, uint32_t count);

enum open_result {
	OPEN_DONE,
	OPEN_NO_BUDGET,		/* does not fit under the limit */
	OPEN_NO_MEMORY,		/* the kernel refused, errno says why */
};

/*
 * Opens a region of so many bytes, of which the first so many slices (one to
 * all) are charged and the others cold; ret_taken is its first slice, or NULL.
 */
enum open_result class_pool_open(struct class_pool *cp, size_t bytes,
				 uint32_t charged_slices,
				 struct taken *ret_taken);

/* The same, all of it charged and unused; the slot where it was shown. */
enum open_result class_pool_open_spare(struct class_pool *cp, size_t bytes,
				       uint32_t *ret_slot);

/* The region runs low: the keeper shall open the next one. */
void class_pool_ask_ahead(struct class_pool *cp, struct region *r);
/* The keeper's: whether one has asked, and something of the pool is in use. */
bool class_pool_wants_ahead(struct class_pool *cp);
/* Then: opens it, of so many bytes, if little is left and the budget has room;
 * else the wish stands. */
void class_pool_open_ahead(struct class_pool *cp, size_t bytes);
/* Backs a part of it; true: there is more. */
bool class_pool_back_ahead(struct class_pool *cp);

/* The kernel refused, with that errno. */
void class_pool_log_refusal(struct class_pool *cp, int error);

/* Whether to open a region now; false: another thread does, try to take. */
bool class_pool_begin_open(struct class_pool *cp);
void class_pool_end_open(struct class_pool *cp);

/* True for the one that retired it, if it was idle as seen.  In a section. */
bool class_pool_retire(struct class_pool *cp, struct region *r, uint64_t seen);

/* Of a region that nobody can find any more: unmaps it after a grace period. */
void class_pool_defer_unmap(struct class_pool *cp, struct region *r);
bool class_pool_unmap(struct work *unmap);

/* Retires idle regions that charge the bytes or a little more; what they do.
 * If they charge less, one that is all cold goes, too: see retire.c. */
uint64_t class_pool_shed(struct class_pool *cp, uint64_t bytes);

/*
 * Gives up the backing and the charge of unused slices in regions of one band,
 * of about so many bytes; what was uncharged.  A region stays, even all cold,
 * and rests for 10 ms if the kernel refused: see decommit.c.
 */
uint64_t class_pool_decommit(struct class_pool *cp, unsigned band,
			     uint64_t bytes);

/* The caller gives its segment back, but not for the next one to have: without
 * backing and charge.  False: the kernel does not discard it, and from now on
 * none of the pool's slices is known to lie where it shall. */
bool class_pool_cool(struct class_pool *cp, void *segment);

/* Retires all idle regions, whatever the hints say; slow. */
uint64_t class_pool_trim(struct class_pool *cp);

/* The keeper's look: retires what was idle for idle_ns.  True: there is
 * something left to look at. */
bool class_pool_decay(struct class_pool *cp, uint64_t now_ns,
		      uint64_t idle_ns);

/* Sums over the regions. */
struct class_sum {
	uint64_t regions, spares, slices, unused, cold, cached;
	uint64_t allocations, releases;
};
struct class_sum class_pool_sum(struct class_pool *cp);
/* The same without what is cached and the totals. */
struct class_sum class_pool_sum_regions(struct class_pool *cp);

/* As the log says it: what can be had without a new region. */
static inline unsigned long long class_pool_free(struct class_pool *cp)
{
	struct class_sum sum = class_pool_sum(cp);

	return sum.unused + sum.cached;
}

static inline uint64_t class_sum_active(struct class_sum sum)
{
	return sum.slices - sum.unused - sum.cold - sum.cached;
}

/* What the class has charged to the budget, deferred bytes included. */
static inline uint64_t class_pool_charged(struct class_pool *cp)
{
	/* relaxed: a sum */
	return gauge_value(&cp->mapped) - u64_load_relaxed(&cp->cold_bytes);
}

/* Whether all regions are with the kernel again. */
bool class_pool_is_unmapped(struct class_pool *cp);

bool class_pool_is_valid(struct class_pool *cp);

#endif
