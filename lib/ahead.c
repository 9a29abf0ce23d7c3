/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * See class_pool.h: the next region comes before a thread has to map it, and,
 * if the pool says so, has backing before a thread has to wait for that.
 *
 * A region of which few slices are left asks for the next one, once in its
 * life.  The keeper opens that one when few are left in the whole pool, too.
 * It never waits, asks nobody to give anything back, and leaves a share of the
 * limit alone.  Until it may, the wish stands, and the keeper looks again at
 * each of its looks; it falls when nothing of the pool is in use any more.
 *
 * Guarantees: (A1) At most one region comes ahead for each one that was used
 * that far.  So who crosses the edge of a region again and again has nothing
 * mapped by that: a region that came in vain goes when it was idle for as long
 * as any other, and the same region does not ask again.  (A2) One that came
 * ahead is as any other spare: at the limit it is the first to be given up.
 * (A3) What the keeper backs, it has in hand meanwhile: an eighth of a region
 * or 2 MiB in each round, whatever is less; and it stops when somebody waits at
 * the limit.  So what is decommitted is never backed behind who did it, next to
 * nothing is out of reach for those who meet the limit, and all else that is
 * the keeper's goes on.
 *
 * Who crosses the edge pays for waking the keeper; all else is the keeper's.
 */
#include "class_pool.h"

#include <errno.h>

#include "cold.h"
#include "keeper.h"
#include "os.h"
#include "rcu.h"

enum {
	SPARED_SHARE = 8,	/* of the limit, that is left to who asks */
	SOON_SHARE = 2,		/* of a region, that is left in the pool */
	STEP_SHARE = 8,		/* of a region is backed at a time ... */
	STEP_BYTES = 2 << 20,	/* ... at most */
	STEP_SLICES = STEP_BYTES / SEG_MIN_BYTES,
	CALL_BYTES = 256 << 10,	/* by one call of the system */
};

void class_pool_ask_ahead(struct class_pool *cp, struct region *r)
{
	uint32_t asked = 0;

	/* relaxed, all: the kick releases the wish to the keeper */
	if (u32_load_relaxed(&r->asked_ahead) ||
	    !u32_cas_strong_relaxed(&r->asked_ahead, &asked, 1))
		return;
	u32_store_relaxed(&cp->ahead_wanted, 1); /* relaxed: as above */
	keeper_kick();
}

/* ---- whether ---- */

static uint64_t free_slices(const struct class_sum *sum)
{
	return sum->unused + sum->cold;
}

static bool is_used(const struct class_sum *sum)
{
	return free_slices(sum) != sum->slices;
}

bool class_pool_wants_ahead(struct class_pool *cp)
{
	struct class_sum sum;

	/* relaxed, both: acquired with the keeper's ticket; one that asks
	 * meanwhile does so for what is released already */
	if (!u32_load_relaxed(&cp->ahead_wanted))
		return false;
	sum = class_pool_sum_regions(cp);
	if (!is_used(&sum))
		u32_store_relaxed(&cp->ahead_wanted, 0); /* relaxed: as above */
	return is_used(&sum);
}

static bool is_low(struct class_pool *cp, size_t bytes)
{
	struct class_sum sum = class_pool_sum_regions(cp);

	return free_slices(&sum) * cp->slice_bytes < bytes / SOON_SHARE;
}

static size_t least(size_t a, size_t b)
{
	return a < b ? a : b;
}

static bool has_room(struct class_pool *cp, size_t bytes)
{
	return budget_room(cp->budget) >=
	       bytes + budget_limit(cp->budget) / SPARED_SHARE;
}

/* ---- the backing ---- */

/* Bit by bit: meanwhile nobody else in the process can map anything. */
static int back_run(char *at, size_t bytes)
{
	int ret = 0;

	while (bytes && !ret) {
		size_t now = least(bytes, CALL_BYTES);

		ret = os_back(at, now);
		at += now;
		bytes -= now;
	}
	return ret;
}

static int back_runs(struct region *r, const struct slice_set *set)
{
	uint32_t at = 0;
	int ret = 0;

	while (!ret && (at = slice_set_next(set, at)) != REGION_MAX_SLICES) {
		uint32_t end = at + 1;

		while (end < r->slices && slice_set_has(set, end))
			end++;
		ret = back_run(region_slice(r, at),
			       (end - at) * r->slice_bytes);
		at = end;
	}
	return ret;
}

static uint32_t take_in_hand(struct class_pool *cp, struct region *r,
			     uint32_t want, struct slice_set *set)
{
	uint32_t n;

	moves_begin(&cp->allocator->moves);
	n = cold_withdraw(r, want, set);
	u32_store_relaxed(&cp->backing, n); /* relaxed: a number */
	moves_end(&cp->allocator->moves);
	return n;
}

static void give_back(struct class_pool *cp, struct region *r,
		      const struct slice_set *set)
{
	uint32_t slices[STEP_SLICES];
	uint32_t count = 0, at = 0;

	while ((at = slice_set_next(set, at)) != REGION_MAX_SLICES)
		slices[count++] = at++;
	moves_begin(&cp->allocator->moves);
	class_pool_put_back(cp, r, slices, count);
	u32_store_relaxed(&cp->backing, 0); /* relaxed: a number */
	moves_end(&cp->allocator->moves);
	bands_settle(&cp->bands, r->slot);
	budget_notify(cp->budget);
}

/* How many slices of the slot's region; 0: no more of them.  The last ones of
 * its list, which are needed last, and then are its first. */
static uint32_t back_some(struct class_pool *cp, uint32_t slot, uint32_t want)
{
	struct region *r;
	struct slice_set set;
	uint32_t n = 0;

	rcu_enter();
	r = bands_at(&cp->bands, slot);
	if (r)
		n = take_in_hand(cp, r, want, &set);
	if (n) {
		/* relaxed: the give releases, to may_be_backed(), what may
		 * be */
		u32_store_relaxed(&r->backed, 1);
		if (back_runs(r, &set))
			n = 0;
		give_back(cp, r, &set);
	}
	rcu_leave();
	return n;
}

/* It looks at the pool first: where nothing is in use, that may be ending, and
 * its budget with it. */
bool class_pool_back_ahead(struct class_pool *cp)
{
	uint32_t left = cp->back_left, n = 0;
	struct class_sum sum;

	if (!left)
		return false;
	sum = class_pool_sum_regions(cp);
	if (is_used(&sum) && !budget_has_waiters(cp->budget))
		n = back_some(cp, cp->back_slot, cp->back_step);
	cp->back_left = n && n < left ? left - n : 0;
	return cp->back_left;
}

static void begin_backing(struct class_pool *cp, uint32_t slot, size_t bytes)
{
	size_t step = least(bytes / STEP_SHARE, STEP_BYTES) / cp->slice_bytes;

	cp->back_slot = slot;
	cp->back_step = step ? (uint32_t)step : 1;
	cp->back_left = (uint32_t)(bytes / cp->slice_bytes);
}

void class_pool_open_ahead(struct class_pool *cp, size_t bytes)
{
	enum open_result result;
	uint32_t slot;

	if (!is_low(cp, bytes) || !has_room(cp, bytes) ||
	    !class_pool_begin_open(cp))
		return;
	/* relaxed: before it is opened, so that it may ask again */
	u32_store_relaxed(&cp->ahead_wanted, 0);
	result = class_pool_open_spare(cp, bytes, &slot);
	class_pool_end_open(cp);
	if (result == OPEN_NO_MEMORY)
		class_pool_log_refusal(cp, errno);
	if (result == OPEN_DONE && cp->allocator->ahead == SEG_AHEAD_BACK)
		begin_backing(cp, slot, bytes);
}
