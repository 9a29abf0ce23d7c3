/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What happens when a pool has no slice left: the ten steps of the reclaim
 * contract, each only if the ones before did not do.
 *    1 the pool's own slices: charged ones that came back meanwhile, then cold
 *      ones, which are charged for it;
 *    2 a new region, of which as many slices are charged as there is room for,
 *      and at least one; the others are born cold;
 *    3 slices that are parked in the threads' stashes: they are emptied;
 *    4 idle regions, and
 *    6 unused slices of partly used ones, the sparsest first, of any class and
 *      pool under the budget: they lose their backing and their charge, in one
 *      call, and without waiting for anybody.  What the kernel does not let us
 *      discard (locked memory) is retired, if whole regions are idle;
 *    5 regions that are on their way to the kernel already are counted in:
 *      nothing is evicted for what will be there in a moment;
 *    7 other nodes, the nearest first, if the policy lets: 1 to 6 there; those
 *      that rest (place.h) come last;
 *    8 the reclaimers, for as long as they give something;
 *    9 whatever anybody releases: waiting, with growing pauses;
 *   10 refusal.
 * Where there are several nodes, a slice that is handed out for the first time
 * has to lie where it shall (place.h); if it can't, the node has nothing left.
 * After each step that may have brought something 1 and 2 are tried again: what
 * came free is anybody's, first come, first served.  So a large request that
 * waits holds up no small one, and whoever goes away empty-handed was overtaken
 * by others who were served.
 *
 * Guarantees: (L1) An allocation is refused only if, at some moment of its last
 * round, there was no free slice, no room for one and nothing to decommit; or
 * another thread took what this one had made free, in each of its rounds, or
 * had it in hand: it stopped in its stash (M5), or while it emptied others'; or
 * the kernel refused, or had within 10 ms (decommit.c).  (L2) Whoever waits has
 * counted itself in before it looks, so every release, unmapping and uncharge
 * that follows the look wakes it (see budget.h).  (L3) Inside a reclaimer, or
 * in the library's own thread, steps 8 and 9 are left out: they could wait for
 * the caller itself.
 *
 * Progress: each step is lock-free but for the system calls of mapping and
 * what the reclaimers do.  The wait ends at the deadline; every pause ends
 * within 5 ms, so that even a wake-up that never comes is a delay and no hang.
 * A reclaimer that says it gave and did not is asked 4 times between pauses.
 */
#include <errno.h>
#include <stddef.h>

#include "os.h"
#include "pool.h"

enum {
	OPEN_ROUNDS = 64,	/* tries to take while another thread maps */
	RECLAIM_ROUNDS = 4,	/* asks in a row */
	BATCH_SHARE = 256,	/* of the limit is made free at a time */
	BATCH_MOST = 1 << 20,	/* ... at most: it takes calls of the kernel */
	ASK_SHARE = 16,		/* and so much asked for at most */
	ROOM_ROUNDS = 16,	/* batches in a row */
	PATIENCE_NS = 2 * 1000 * 1000,	/* for what is on its way */
	PAUSE_FIRST_NS = 50 * 1000,
	PAUSE_MOST_NS = 5 * 1000 * 1000,
};

/* One allocation at the limit. */
struct attempt {
	struct class_pool *cp;		/* of the node that is tried ... */
	struct seg_budget *budget;	/* ... and what it is charged to */
	const struct place *place;	/* NULL: there is one node */
	struct limit_report *report;
	uint64_t now_ns;	/* as of the last look */
	uint64_t deadline_ns;
	bool waits;		/* time passes: nodes may go meanwhile */
	bool in_vain;		/* it charged something and gave it back */
	uint64_t wanted;	/* from the reclaimers, at the next ask */
	uint64_t asked_ns;	/* the last one, or the beginning */
	bool asked_all;		/* those that rest, too */
	bool refused;		/* by the kernel, in this try ... */
	int error;		/* ... or in any: the errno */
	bool full;		/* the node has no memory, in this try ... */
	bool all_full;		/* ... nor has any other, in the last one */
	bool rested;		/* a node was not asked, since it rests ... */
	bool asks_resting;	/* ... but is to be asked now */
	struct taken taken;
};

static uint64_t limit_of(struct attempt *at)
{
	return budget_limit(at->budget);
}

static uint64_t least(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

/* A share of the limit, but not less than what is needed. */
static uint64_t share_of_limit(struct attempt *at, uint64_t share)
{
	uint64_t bytes = limit_of(at) / share;

	return bytes > at->cp->slice_bytes ? bytes : at->cp->slice_bytes;
}

static size_t usual_bytes(struct attempt *at)
{
	return node_region_bytes(at->cp->class_index, limit_of(at),
				 at->cp->most_bytes);
}

static bool is_served(const struct attempt *at)
{
	return at->taken.segment != NULL;
}

/* ---- steps 1 and 2 ---- */

/* What was taken lies where it shall; else it is given back. */
static enum placed settle(struct attempt *at)
{
	enum placed placed = PLACED;

	if (at->place && is_served(at))
		placed = place_settle(at->cp, &at->taken, at->full);
	at->full |= placed != PLACED;
	at->in_vain |= placed != PLACED;
	return placed;
}

static bool take_settled(struct attempt *at, struct taken taken)
{
	at->taken = taken;
	(void)settle(at);
	return is_served(at);
}

/* Those that were handed out before lie right, and may stand behind others. */
static bool take_own(struct attempt *at)
{
	do {
		at->taken = class_pool_take(at->cp);
	} while (is_served(at) && settle(at) == PLACED_NOT);
	if (is_served(at) || at->full)
		return is_served(at);
	return take_settled(at, class_pool_take_cold(at->cp));
}

/*
 * While another thread maps a region, its slices are worth waiting for, but
 * only so long: it may have been stopped.  Who begins to open looks once more:
 * the one before may just have finished.  True: served.
 */
static bool take_or_begin_open(struct attempt *at, bool *ret_ours)
{
	bool ours = false;

	for (int round = 0; round < OPEN_ROUNDS && !ours; round++) {
		if (round)
			os_yield();
		ours = class_pool_begin_open(at->cp);
		if (take_own(at))
			break;
	}
	*ret_ours = ours;
	return is_served(at);
}

/* As many charged slices as there is room for; false: for none. */
static bool open_bytes(struct attempt *at, size_t bytes,
		       enum open_result *ret_result)
{
	uint64_t room = least(budget_room(at->budget), bytes);
	uint64_t slices = room / at->cp->slice_bytes;

	if (!slices) {
		budget_refuse(at->budget);
		return false;
	}
	*ret_result = class_pool_open(at->cp, bytes, (uint32_t)slices,
				      &at->taken);
	return true;
}

/*
 * Again if another thread took the room that was seen, and smaller if the
 * kernel refuses.
 */
static bool open_region(struct attempt *at)
{
	size_t bytes = usual_bytes(at);
	enum open_result result;

	while (!at->full && bytes >= at->cp->slice_bytes &&
	       open_bytes(at, bytes, &result)) {
		if (result == OPEN_DONE)
			break;
		if (result == OPEN_NO_BUDGET)
			continue;
		at->refused = true;
		at->error = errno;
		bytes /= 2;
	}
	return take_settled(at, at->taken);
}

static bool take_or_open(struct attempt *at)
{
	return take_own(at) || open_region(at);
}

/* ---- step 3 ---- */

static bool take_parked(struct attempt *at)
{
	return gather_all(at->cp->allocator, true) && take_or_open(at);
}

/* ---- steps 4 to 6 ---- */

/* True: something comes that did not before. */
static bool retire_idle(struct attempt *at, uint64_t bytes)
{
	uint64_t coming = budget_coming(at->budget);
	uint64_t retired;

	if (coming >= bytes)
		return false;
	retired = budget_shed(at->budget, bytes - coming);
	at->report->retired_bytes += retired;
	return retired != 0;
}

/* So that it is not done for each slice; less what is coming, so that those
 * who meet the limit together don't do it all at once. */
static uint64_t batch_of(struct attempt *at)
{
	uint64_t need = at->cp->slice_bytes;
	uint64_t batch = least(share_of_limit(at, BATCH_SHARE), BATCH_MOST);

	return batch - least(budget_coming(at->budget), batch - need);
}

/* What is missing is memory of the node: it may have some again. */
static bool empty_node(struct attempt *at, uint64_t batch)
{
	uint64_t given = place_make_room(at->place, at->cp, batch);

	at->report->discarded_bytes += given;
	at->full = !given;
	return given != 0;
}

/* True: there may be something now. */
static bool make_room(struct attempt *at, uint64_t batch)
{
	uint64_t need = at->cp->slice_bytes;
	uint64_t room = budget_room(at->budget);
	uint64_t given;

	if (at->full)
		return empty_node(at, batch);
	if (at->refused)	/* what it wants back is address space */
		return retire_idle(at, usual_bytes(at));
	if (room >= need)
		return true;
	if (need > limit_of(at))
		return false;
	given = budget_decommit(at->budget, batch - room);
	at->report->discarded_bytes += given;
	return given || retire_idle(at, need - room);
}

/*
 * Until it is served, or there is nothing to give up.  In a tree, room at one
 * level may show that another one is full; and what one's own pools give goes
 * to the parent first, as far as it was borrowed, where others may take it:
 * only what comes then is room of the guarantee.  So each round asks for twice
 * as much as the one before.
 */
static void make_room_and_take(struct attempt *at)
{
	uint64_t batch = batch_of(at);

	for (int round = 0; round < ROOM_ROUNDS; round++, batch *= 2)
		if (!make_room(at, batch) || take_or_open(at))
			return;
}

static bool is_left_alone(struct attempt *at)
{
	bool rests = !at->asks_resting && place_rests(at->place, at->cp);

	at->rested |= rests;
	return rests;
}

/* Nothing can be had there, or is to be tried now. */
static bool begins_full(struct attempt *at)
{
	return at->place &&
	       (is_left_alone(at) ||
		(at->waits && !topology_is_usable(at->cp->node_index)));
}

/* On one node: all but asking and waiting. */
static bool try_node(struct attempt *at)
{
	bool ours;

	at->refused = false;
	at->full = begins_full(at);
	if (!take_or_begin_open(at, &ours) && !open_region(at) &&
	    !take_parked(at))
		make_room_and_take(at);
	if (ours)
		class_pool_end_open(at->cp);
	at->in_vain |= at->refused;
	if (is_served(at))
		return true;
	/* A cold one would be charged, found to have no memory, and uncharged:
	 * that wakes who waits, itself included, all the time. */
	return take_settled(at, at->full ? class_pool_take_unhinted(at->cp) :
					   class_pool_take_any(at->cp));
}

/* ---- step 7 ---- */

static void use_pool(struct attempt *at, struct class_pool *cp)
{
	at->cp = cp;
	at->budget = cp->budget;
}

static void try_others(struct attempt *at)
{
	struct class_pool *wanted = at->cp;
	bool refused = at->refused, full = at->full, more = true;

	at->all_full = full;
	/* The first is another one if the wanted node went meanwhile. */
	for (unsigned k = 0; more && !is_served(at); k++) {
		struct class_pool *cp = place_pool(at->place, k, &more);

		if (!cp || cp == wanted)
			continue;
		use_pool(at, cp);
		try_node(at);
		at->all_full &= at->full;
	}
	if (is_served(at))
		return;
	use_pool(at, wanted);
	at->refused = refused;
	at->full = full;
}

/* All but asking and waiting. */
static bool try_all(struct attempt *at)
{
	if (!try_node(at) && at->place)
		try_others(at);
	return is_served(at);
}

/* What a node rests for may be over since: the kernel says that there is no
 * memory while it moves some, too.  So where nobody else has any, it is asked,
 * but once. */
static bool try_all_once_more(struct attempt *at)
{
	if (try_all(at) || !at->rested)
		return is_served(at);
	at->asks_resting = true;
	try_all(at);
	at->asks_resting = false;
	return is_served(at);
}

/* ---- step 8 ---- */

/* Where only the node's own budget is full, those of the pool's are the ones
 * that hold what it is full of. */
static uint64_t ask_those(struct attempt *at, enum reclaim_whom whom)
{
	struct seg_budget *pools = at->cp->allocator->budget;
	uint64_t given = budget_reclaim(at->budget, at->wanted, whom);

	if (!given && at->budget != pools &&
	    budget_room(pools) >= at->cp->slice_bytes)
		given = reclaim_ask(&pools->reclaimers, at->wanted, whom);
	return given;
}

/* Those that rest are asked, too, but once: see reclaim.h. */
static uint64_t ask(struct attempt *at)
{
	uint64_t given = ask_those(at, RECLAIM_WILLING);

	if (!given && !at->asked_all) {
		at->asked_all = true;
		given = ask_those(at, RECLAIM_RESTING);
	}
	at->report->asks++;
	at->report->given_bytes += given;
	return given;
}

/*
 * True: they gave something.  Others may be faster to get it: whoever has to
 * ask again asks for twice as much.
 */
static bool reclaim(struct attempt *at)
{
	at->asked_ns = at->now_ns;
	if (!ask(at))
		return false;
	if (at->wanted < share_of_limit(at, ASK_SHARE))
		at->wanted *= 2;
	return true;
}

static bool has_reclaimers(const struct seg_budget *b)
{
	/* relaxed: a number */
	while (b && !u64_load_relaxed(&b->reclaimers.count))
		b = b->parent;
	return b != NULL;
}

/* A cache gives nothing for a moment while another thread evicts from it.  And
 * where there is no keeper nobody else brings what is on its way. */
static void reclaim_and_try(struct attempt *at)
{
	for (int round = 0; round < RECLAIM_ROUNDS; round++) {
		bool given = reclaim(at);

		if (!keeper_help() && !given) {
			if (!has_reclaimers(at->budget))
				return;
			os_yield();
		}
		if (try_all(at))
			return;
	}
}

/* ---- step 9 ---- */

/* So long what is coming is let come, since the beginning or the last ask. */
static bool is_patient(const struct attempt *at)
{
	return budget_coming(at->budget) >= at->cp->slice_bytes &&
	       at->now_ns - at->asked_ns < PATIENCE_NS;
}

/*
 * A try that the kernel refused has given its charge back, and so wakes who
 * waits, others and itself.  So that they don't wake each other all the time,
 * the pause after it is one that nobody ends.
 */
static void pause_after(struct attempt *at, uint32_t ticket, uint64_t pause_ns)
{
	struct atomic_u32 nobody = { 0 };

	pause_ns = least(pause_ns, at->deadline_ns - at->now_ns);
	if (at->in_vain)
		os_futex_wait(&nobody, 0, pause_ns);
	else
		budget_wait_sleep(at->budget, ticket, pause_ns);
	at->now_ns = os_now_ns();
}

/* The last try comes after the deadline. */
static void wait_for_any(struct attempt *at)
{
	struct seg_budget *wanted = at->budget;	/* another may serve */
	uint64_t pause_ns = PAUSE_FIRST_NS;
	int asks = 0;

	at->waits = true;
	budget_wait_begin(wanted);
	for (;;) {
		uint32_t ticket = budget_wait_ticket(at->budget);
		bool last = at->now_ns >= at->deadline_ns;

		at->in_vain = false;
		at->asks_resting = last;
		if (try_all(at) || last)
			break;
		at->now_ns = os_now_ns();
		if (asks < RECLAIM_ROUNDS && !is_patient(at) && reclaim(at)) {
			asks++;
			continue;
		}
		if (at->now_ns >= at->deadline_ns)
			continue;
		asks = 0;
		keeper_help();
		pause_after(at, ticket, pause_ns);
		pause_ns = least(2 * pause_ns, PAUSE_MOST_NS);
	}
	budget_wait_end(wanted);
}

struct taken limit_allocate(struct class_pool *cp,
			    const struct limit_want *want,
			    struct limit_report *ret_report)
{
	uint64_t now_ns = os_now_ns();
	struct attempt at = {
		.cp = cp, .budget = cp->budget, .place = want->place,
		.report = ret_report, .now_ns = now_ns, .asked_ns = now_ns,
		.deadline_ns = want->deadline_ns, .wanted = cp->slice_bytes,
	};

	*ret_report = (struct limit_report){ .inside = !reclaim_may_ask(),
					   .easy = want->easy };
	if (!try_all_once_more(&at) && !ret_report->inside && !want->easy) {
		if (want->deadline_ns > now_ns)
			wait_for_any(&at);
		else
			reclaim_and_try(&at);
	}
	ret_report->waited_ns = at.now_ns - now_ns;
	ret_report->refused = at.refused;
	ret_report->node_full = at.all_full;
	ret_report->cp = at.cp;
	if (at.error)
		class_pool_log_refusal(cp, at.error);
	return at.taken;
}
